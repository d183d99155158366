//! What fails for good is kept as a dead letter, with the reason, and can be sent round again.

use std::num::NonZeroU32;
use std::time::Duration;

use polyqueue::{
    Admin, DeadFilter, Destination, Message, Page, Queue, QueueName, QueueSpec, Settled, Subscription,
    Verdict,
};
use polyqueue_memory::MemoryQueue;

const ORDERS: QueueName = QueueName::from_static("orders");

#[tokio::main]
async fn main() -> polyqueue::Result<()> {
    let queue = MemoryQueue::new();
    queue.declare(&QueueSpec::new(ORDERS)).await?;
    let order = Message::new("order 4711").with_max_attempts(NonZeroU32::MIN);
    queue.publish(&Destination::Queue(ORDERS), vec![order]).await?;

    let consumer = queue.subscribe(&Subscription::new(ORDERS)).await?;
    let delivery = consumer.receive(1, Duration::ZERO).await?.remove(0);
    let failed = Verdict::retry(Duration::from_secs(1), "no such product");
    let answers = consumer.settle(&[(delivery.receipt, failed)]).await?;
    assert!(matches!(answers[..], [Ok(Settled::Died)]), "its only attempt failed");

    let page = queue.dead_letters(&ORDERS, &DeadFilter::all(), Page::first(10)).await?;
    for letter in &page.dead_letters {
        println!(
            "{} {}: {} after {} attempt(s)",
            letter.died_at, letter.reason, letter.error, letter.attempts
        );
    }
    let ids: Vec<_> = page.dead_letters.into_iter().map(|letter| letter.id).collect();
    assert_eq!(queue.redrive(&ORDERS, &ids).await?, [true]);

    let again = consumer.receive(1, Duration::ZERO).await?.remove(0);
    assert_eq!((again.attempt, again.message.payload().as_ref()), (1, &b"order 4711"[..]));
    consumer.settle(&[(again.receipt, Verdict::Ack)]).await?;
    assert_eq!(queue.stats(&ORDERS).await?.dead, 0);
    queue.close().await
}
