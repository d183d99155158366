//! What takes a handle takes a pointer to one.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Admin, Consumer, Destination, Inbox, Message, Queue, QueueExt, QueueName, QueueSpec, Requester, Result,
    Subscription, Verdict, Worker,
};

use crate::ext::memory;

const Q: QueueName = QueueName::from_static("q");
const SOON: Duration = Duration::from_secs(1);

async fn declared<P: Queue>(queue: &P) -> Result<()> {
    queue.declare(&QueueSpec::new(Q)).await?;
    queue.publish_one(Q, Message::new("hello")).await?;
    assert!(queue.health().await.healthy && queue.info().provider == "memory");
    Ok(())
}

async fn ready(admin: impl Admin) -> Result<u64> {
    Ok(admin.stats(&Q).await?.ready)
}

async fn handled(consumer: impl Consumer) -> Result<usize> {
    let came = consumer.receive(10, SOON).await?;
    for delivery in &came {
        consumer.extend(std::slice::from_ref(&delivery.receipt)).await?;
        consumer.settle(&[(delivery.receipt.clone(), Verdict::Ack)]).await?;
    }
    consumer.close().await?;
    Ok(came.len())
}

async fn answered(queue: impl Queue, inbox: impl Inbox) -> Result<usize> {
    queue.publish(&Destination::from(inbox.address()), vec![Message::new("reply")]).await?.remove(0)?;
    Ok(inbox.receive(SOON).await?.len())
}

async fn handles<P: Queue>(queue: P) -> Result<()> {
    declared(&queue).await?;
    assert_eq!(ready(&queue).await?, 1);
    let subscription = Subscription::new(Q);
    assert_eq!(handled(queue.subscribe(&subscription).await?).await?, 1);
    let shared: Arc<dyn Consumer> = queue.subscribe(&subscription).await?.into();
    assert_eq!(handled(&shared).await? + handled(shared).await?, 0);
    let shared: Arc<dyn Inbox> = queue.inbox().await?.into();
    let inbox = queue.inbox().await?;
    let queue: Box<dyn Queue> = Box::new(queue);
    assert_eq!(answered(Box::leak(queue) as &'static dyn Queue, &inbox).await?, 1);
    assert_eq!(inbox.receive(Duration::ZERO).await?.len() + shared.receive(Duration::ZERO).await?.len(), 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn every_pointer_is_what_it_points_to() {
    handles(memory("pointer-arc").await).await.unwrap();
    handles(Box::new(memory("pointer-box").await)).await.unwrap();
    let lent: &'static Arc<dyn Queue> = Box::leak(Box::new(memory("pointer-lent").await));
    handles(lent).await.unwrap();
    assert_eq!(ready(lent as &dyn Admin).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_stands_above_takes_a_pointer_in_an_arc() {
    let queue: Box<dyn Queue> = Box::new(memory("pointer-above").await);
    let queue = Arc::new(queue);
    declared(&*queue).await.unwrap();
    Requester::open(queue.clone()).await.unwrap();
    let worker = Worker::new(queue).on_others(async |_: polyqueue::Job<polyqueue::Bytes>| Ok(()));
    let report = worker.run([Q], tokio::time::sleep(SOON)).await.unwrap();
    assert_eq!(report.acked, 1);
}
