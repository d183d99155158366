//! Deduplication and bounds: a key that is stored once, and a queue that says when it is full.

use std::time::Duration;

use polyqueue::{
    Admin, Dedup, Error, Message, Overflow, Queue, QueueExt, QueueName, QueueSpec, Subscription, Verdict,
};
use polyqueue_memory::MemoryQueue;

const PAYMENTS: QueueName = QueueName::from_static("payments");

fn payment(order: u32) -> Message {
    Message::new(format!("order {order}")).with_dedup_key(format!("order-{order}"))
}

#[tokio::main]
async fn main() -> polyqueue::Result<()> {
    let queue = MemoryQueue::new();
    let day = Duration::from_secs(24 * 60 * 60);
    queue.declare(&QueueSpec::new(PAYMENTS).dedup(Dedup::window(day)).bound(2, Overflow::Reject)).await?;

    let first = queue.publish_one(PAYMENTS, payment(1)).await?;
    let again = queue.publish_one(PAYMENTS, payment(1)).await?;
    println!("the second is a duplicate of {:?}", again.duplicate_of);
    assert_eq!(again.duplicate_of, Some(first.id));

    queue.publish_one(PAYMENTS, payment(2)).await?;
    let full = queue.publish_one(PAYMENTS, payment(3)).await;
    println!("{}", full.as_ref().expect_err("there is no room"));
    assert!(matches!(full, Err(Error::Full { limit: 2, .. })));

    // A publish that failed holds no key; one that was acknowledged does until its window ends.
    let consumer = queue.subscribe(&Subscription::new(PAYMENTS)).await?;
    for delivery in consumer.receive(2, Duration::ZERO).await? {
        consumer.settle(&[(delivery.receipt, Verdict::Ack)]).await?;
    }
    assert_eq!(queue.publish_one(PAYMENTS, payment(3)).await?.duplicate_of, None);
    assert!(queue.publish_one(PAYMENTS, payment(1)).await?.duplicate_of.is_some());
    let counters = queue.stats(&PAYMENTS).await?.counters;
    assert_eq!((counters.published, counters.duplicates, counters.refused), (5, 2, 1));
    queue.close().await
}
