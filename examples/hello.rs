//! The smallest program: publish a message, receive it, say that it is done.

use std::time::Duration;

use polyqueue::{Destination, Message, Queue, QueueName, QueueSpec, Subscription, Verdict};
use polyqueue_memory::MemoryQueue;

const GREETINGS: QueueName = QueueName::from_static("greetings");

#[tokio::main]
async fn main() -> polyqueue::Result<()> {
    let queue = MemoryQueue::new();
    queue.declare(&QueueSpec::new(GREETINGS)).await?;

    let published = queue.publish(&Destination::Queue(GREETINGS), vec![Message::new("hello, world")]).await?;
    for answer in published {
        println!("published {}", answer?.id);
    }

    let consumer = queue.subscribe(&Subscription::new(GREETINGS)).await?;
    let deliveries = consumer.receive(1, Duration::from_secs(1)).await?;
    assert_eq!(deliveries.len(), 1);
    for delivery in deliveries {
        println!("received {:?}, attempt {}", delivery.message.payload(), delivery.attempt);
        consumer.settle(&[(delivery.receipt, Verdict::Ack)]).await?;
    }
    queue.close().await
}
