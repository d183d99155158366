//! A broker that takes no messages: health says so, and events tell when it begins and when it ends.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Admin as _, ConnectOptions, Event, Events, Message, Purge, Queue, QueueName, Result};
use polyqueue_memory::{MemoryBroker, MemoryQueue};
use tokio::time::timeout;

const Q: QueueName = QueueName::from_static("q");
const SECOND: Duration = Duration::from_secs(1);

/// Does something to a broker.
type Fault = fn(&MemoryBroker);

async fn publish(queue: &dyn Queue, bytes: usize) -> Result<()> {
    queue.publish(&Q.into(), vec![Message::new(vec![0; bytes])]).await?.remove(0).map(drop)
}

async fn next(events: &mut Events) -> Option<Event> {
    timeout(SECOND, events.next()).await.ok().flatten()
}

#[tokio::test(start_paused = true)]
async fn a_broker_without_room_is_ill_until_there_is_some() {
    let queue = MemoryQueue::with_max_bytes(10_000);
    queue.declare(&Q.into()).await.unwrap();
    let mut events = queue.events();
    assert!(publish(&queue, 20_000).await.is_err(), "larger than all there is");
    assert!(queue.health().await.healthy, "that is no state of the broker");
    while publish(&queue, 1_000).await.is_ok() {}
    let health = queue.health().await;
    assert!(!health.healthy && health.detail.contains("blocks publishes"), "{health:?}");
    assert!(publish(&queue, 1_000).await.is_err());
    assert!(matches!(next(&mut events).await, Some(Event::Blocked { detail }) if detail.contains("10000")));
    assert_eq!(next(&mut events).await, None, "it is told once");
    queue.purge(&Q, Purge::Waiting).await.unwrap();
    assert!(queue.health().await.healthy);
    assert_eq!(next(&mut events).await, Some(Event::Unblocked));
}

#[tokio::test(start_paused = true)]
async fn a_simulated_broker_that_refuses_messages_is_ill_until_it_is_healed() {
    let broker = MemoryBroker::new();
    let options = ConnectOptions::new("").deadline(SECOND);
    let queue: Arc<dyn Queue> = broker.link().open(&options).await.unwrap();
    queue.declare(&Q.into()).await.unwrap();
    let mut events = queue.events();
    let faults: [(Fault, &str); 3] = [
        (MemoryBroker::alarm, "whoever publishes"),
        (MemoryBroker::out_of_memory, "out of memory"),
        (MemoryBroker::read_only, "read only"),
    ];
    for (fault, says) in faults {
        fault(&broker);
        assert!(publish(&*queue, 1).await.is_err(), "{says}");
        let health = queue.health().await;
        assert!(!health.healthy && health.detail.contains(says), "{health:?}");
        assert!(matches!(next(&mut events).await, Some(Event::Blocked { detail }) if detail.contains(says)));
        broker.heal();
        publish(&*queue, 1).await.unwrap();
        assert_eq!(next(&mut events).await, Some(Event::Unblocked));
        assert!(queue.health().await.healthy);
    }
}
