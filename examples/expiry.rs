//! Time to live: a message that nobody took in time becomes a dead letter instead of being handed out late.

use std::time::Duration;

use polyqueue::{
    Admin, DeadFilter, DeadReason, Message, Page, Queue, QueueExt, QueueName, QueueSpec, Subscription,
};
use polyqueue_memory::MemoryQueue;

const PRICES: QueueName = QueueName::from_static("prices");

#[tokio::main]
async fn main() -> polyqueue::Result<()> {
    let queue = MemoryQueue::new();
    // Of what expired the last thousand are kept, for a day.
    let spec = QueueSpec::new(PRICES).dead_max_len(1000).dead_max_age(Duration::from_secs(24 * 60 * 60));
    queue.declare(&spec).await?;
    queue
        .publish_one(PRICES, Message::new("12.50, for a moment").with_ttl(Duration::from_millis(50)))
        .await?;
    queue.publish_one(PRICES, Message::new("12.60").with_ttl(Duration::from_secs(60))).await?;

    tokio::time::sleep(Duration::from_millis(100)).await;
    let consumer = queue.subscribe(&Subscription::new(PRICES)).await?;
    let came = consumer.receive(10, Duration::ZERO).await?;
    assert_eq!(came.len(), 1);
    println!("handed out: {:?}", came[0].message.payload());

    let expired = DeadFilter::all().reason(DeadReason::Expired);
    let letters = queue.dead_letters(&PRICES, &expired, Page::first(10)).await?.dead_letters;
    assert_eq!(letters.len(), 1);
    for letter in letters {
        println!("expired: {:?}", letter.message().map(Message::payload));
    }
    queue.close().await
}
