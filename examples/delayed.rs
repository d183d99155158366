//! A delayed message is handed out when its time has come, never before, and holds up nobody.

use std::time::{Duration, Instant};

use polyqueue::{Destination, Message, Queue, QueueName, QueueSpec, Subscription, Verdict};
use polyqueue_memory::MemoryQueue;

const REMINDERS: QueueName = QueueName::from_static("reminders");

#[tokio::main]
async fn main() -> polyqueue::Result<()> {
    let queue = MemoryQueue::new();
    queue.declare(&QueueSpec::new(REMINDERS)).await?;
    let started = Instant::now();
    let batch = [("late", 600), ("soon", 200), ("now", 0)]
        .map(|(text, millis)| Message::new(text).with_delay(Duration::from_millis(millis)));
    queue.publish(&Destination::Queue(REMINDERS), batch.into()).await?;

    let consumer = queue.subscribe(&Subscription::new(REMINDERS)).await?;
    for (expected, millis) in [("now", 0), ("soon", 200), ("late", 600)] {
        let deliveries = consumer.receive(1, Duration::from_secs(5)).await?;
        let delivery = deliveries.into_iter().next().expect("it comes within five seconds");
        let waited = started.elapsed();
        println!("{expected:>4} after {waited:?}");
        assert_eq!(delivery.message.payload(), expected);
        assert!(waited >= Duration::from_millis(millis), "never early");
        consumer.settle(&[(delivery.receipt, Verdict::Ack)]).await?;
    }
    queue.close().await
}
