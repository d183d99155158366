//! Priority is strict: 10 goes before 9 goes before … 1; equals keep their order.

use std::time::Duration;

use polyqueue::{Destination, Message, Priority, Queue, QueueName, QueueSpec, Subscription, Verdict};
use polyqueue_memory::MemoryQueue;

const MAIL: QueueName = QueueName::from_static("mail");

#[tokio::main]
async fn main() -> polyqueue::Result<()> {
    let queue = MemoryQueue::new();
    queue.declare(&QueueSpec::new(MAIL)).await?;
    for (text, level) in [("newsletter", 1), ("invoice", 5), ("password reset", 10), ("receipt", 5)] {
        let message = Message::new(text).with_priority(Priority::new(level)?);
        queue.publish(&Destination::Queue(MAIL), vec![message]).await?;
    }

    let consumer = queue.subscribe(&Subscription::new(MAIL)).await?;
    let mut order = Vec::new();
    while let [delivery] = &consumer.receive(1, Duration::ZERO).await?[..] {
        println!("{:>2}  {:?}", delivery.message.priority(), delivery.message.payload());
        order.push(delivery.message.payload().clone());
        consumer.settle(&[(delivery.receipt.clone(), Verdict::Ack)]).await?;
    }
    assert_eq!(order, ["password reset", "invoice", "receipt", "newsletter"]);
    queue.close().await
}
