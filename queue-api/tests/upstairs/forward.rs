//! A wrapper whose operating half is written by the macro.

use std::sync::Arc;

use polyqueue::{
    Admin, ConnectOptions, Consumer, DeadFilter, DeadId, Destination, Health, Inbox, Info, Layer, Message,
    Page, Published, Purge, Queue, QueueExt, QueueName, QueueSpec, Result, Subscription, async_trait,
    connect, forward_admin,
};

const Q: QueueName = QueueName::from_static("q");

#[derive(Debug)]
struct Plain {
    inner: Arc<dyn Queue>,
}

forward_admin! { impl Admin for Plain => inner }

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Queue for Plain {
    fn info(&self) -> Info {
        self.inner.info()
    }
    async fn declare(&self, spec: &QueueSpec) -> Result<()> {
        self.inner.declare(spec).await
    }
    async fn publish(&self, to: &Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        self.inner.publish(to, batch).await
    }
    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        self.inner.subscribe(subscription).await
    }
    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.inner.inbox().await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

struct Tagged<'t, Q> {
    behind: Q,
    tag: &'t str,
}

forward_admin! {
    impl['t, Q: Admin] Admin for Tagged<'t, Q> => behind {
        /// Says its tag.
        async fn health(&self) -> Health {
            let mut health = self.behind.health().await;
            health.detail = self.tag.into();
            health
        }

        async fn purge(&self, _queue: &QueueName, _what: Purge) -> Result<u64> {
            Ok(0)
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_method_reaches_the_inner_queue() {
    let memory =
        connect(&[polyqueue_memory::PROVIDER], ConnectOptions::new("memory://forward")).await.unwrap();
    let wrap = |inner| Arc::new(Plain { inner }) as Arc<dyn Queue>;
    let queue = wrap.layer(memory);
    queue.declare(&QueueSpec::new(Q)).await.unwrap();
    queue.put(Q, Message::new("a")).await.unwrap();
    assert_eq!(queue.queues().await.unwrap(), [QueueSpec::new(Q)]);
    assert_eq!(queue.stats(&Q).await.unwrap().ready, 1);
    assert_eq!(queue.purge(&Q, Purge::Waiting).await.unwrap(), 1);
    assert!(queue.dead_letters(&Q, &DeadFilter::all(), Page::first(1)).await.unwrap().letters.is_empty());
    let nobody = [DeadId::new("nobody")];
    assert_eq!(queue.redrive(&Q, &nobody).await.unwrap(), [false]);
    assert_eq!(queue.discard(&Q, &nobody).await.unwrap(), [false]);
    assert!(queue.health().await.healthy);
    queue.delete(&Q).await.unwrap();
    assert!(queue.stats(&Q).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_is_written_by_hand_wins() {
    let memory =
        connect(&[polyqueue_memory::PROVIDER], ConnectOptions::new("memory://tagged")).await.unwrap();
    memory.declare(&QueueSpec::new(Q)).await.unwrap();
    memory.put(Q, Message::new("a")).await.unwrap();
    let tagged = Tagged { behind: Plain { inner: memory }, tag: "mine" };
    assert_eq!(tagged.health().await.detail, "mine");
    assert_eq!(tagged.purge(&Q, Purge::Waiting).await.unwrap(), 0);
    assert_eq!(tagged.stats(&Q).await.unwrap().ready, 1, "the rest forwards");
}
