//! A handle that is there before its broker.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use polyqueue::{
    Certainty, ConnectOptions, Error, Event, Message, Provider, Queue, QueueExt, QueueName, Subscription,
};
use polyqueue_memory::MemoryQueue;
use tokio::time::{Instant, sleep, timeout};

const Q: QueueName = QueueName::from_static("q");
const SECOND: Duration = Duration::from_secs(1);

/// Not there for so many attempts.
static AWAY: AtomicU32 = AtomicU32::new(0);

const LATE: Provider = Provider::new("late", &["late"], "LATE_URL", "late://", |mut options| {
    Box::pin(async move {
        if AWAY.load(SeqCst) > 0 {
            AWAY.fetch_sub(1, SeqCst);
            return Err(Error::timeout("connecting", SECOND, Certainty::Unknown));
        }
        options.url = "memory://late".into();
        Ok(std::sync::Arc::new(MemoryQueue::connect(&options)?) as std::sync::Arc<dyn Queue>)
    })
});

#[tokio::test(start_paused = true)]
async fn it_works_once_its_broker_has_come() {
    AWAY.store(5, SeqCst);
    let queue = LATE.connect_lazily(ConnectOptions::new("late://")).unwrap();
    let mut events = queue.events();
    let refused = queue.publish_one(Q, Message::new("too early")).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable { .. }), "{refused}");
    assert_eq!(refused.certainty(), Certainty::Definite);
    assert!(!queue.health().await.healthy);
    let child = queue.namespace("tenant").unwrap();
    assert!(!child.health().await.healthy);

    let asked = Instant::now();
    queue.declare(&Q.into()).await.unwrap();
    assert!(asked.elapsed() > Duration::ZERO && asked.elapsed() < 5 * SECOND, "{:?}", asked.elapsed());
    assert!(queue.health().await.healthy);
    queue.publish_one(Q, Message::new("in time")).await.unwrap();
    assert_eq!(events.next().await.map(|event| event.name()), Some("connection_restored"));

    child.declare(&Q.into()).await.unwrap();
    child.publish_one(Q, Message::new("the child's")).await.unwrap();
    for (queue, expected) in [(&queue, "in time"), (&child, "the child's")] {
        let consumer = queue.subscribe(&Subscription::new(Q)).await.unwrap();
        assert_eq!(consumer.receive(1, SECOND).await.unwrap()[0].message.payload(), expected);
    }

    // What happens to the handle within is told.
    let one = std::num::NonZeroU32::MIN;
    queue.publish_one(Q, Message::new("dies")).await.unwrap();
    let consumer = queue.subscribe(&Subscription::new(Q).lease(SECOND).max_attempts(one)).await.unwrap();
    consumer.receive(1, SECOND).await.unwrap();
    sleep(2 * SECOND).await;
    assert!(consumer.receive(1, SECOND).await.unwrap().is_empty());
    let told = timeout(SECOND, events.next()).await.unwrap();
    assert!(matches!(told, Some(Event::DeadLetter { .. })), "{told:?}");
    queue.close().await.unwrap();
    assert!(matches!(queue.publish_one(Q, Message::new("late")).await, Err(Error::Closed)));
    assert!(matches!(child.publish_one(Q, Message::new("late")).await, Err(Error::Closed)));
}

#[tokio::test(start_paused = true)]
async fn one_whose_broker_never_comes_ends_its_calls_in_time_and_can_be_closed() {
    const NEVER: Provider = Provider::new("never", &["never"], "NEVER_URL", "never://", |_| {
        Box::pin(async { Err(Error::denied("never", "wrong password")) })
    });
    let options = ConnectOptions::new("never://").deadline(3 * SECOND);
    let queue = NEVER.connect_lazily(options).unwrap();
    let asked = Instant::now();
    assert!(matches!(queue.declare(&Q.into()).await, Err(Error::Denied { .. })));
    assert_eq!(asked.elapsed(), 3 * SECOND);
    let waits = queue.clone();
    let waits = tokio::spawn(async move { waits.stats(&Q).await });
    tokio::task::yield_now().await;
    queue.close().await.unwrap();
    assert!(matches!(waits.await.unwrap(), Err(Error::Closed)));
    assert_eq!(asked.elapsed(), 3 * SECOND);
    assert!(NEVER.connect_lazily(ConnectOptions::new("never://").deadline(Duration::ZERO)).is_err());
}
