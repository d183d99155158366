//! A wrapper whose operating half is written by the macro.

use std::sync::Arc;

use polyqueue::{
    Admin, ConnectOptions, Consumer, DeadFilter, DeadId, Destination, Events, Health, Inbox, Info, Layer,
    Message, MessageId, Page, Published, Purge, Queue, QueueExt, QueueName, QueueSpec, QueueStats,
    Reschedule, Result, Subscription, async_trait, connect, forward_admin,
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
    async fn reschedule(&self, queue: &QueueName, id: &MessageId, to: Reschedule) -> Result<bool> {
        self.inner.reschedule(queue, id, to).await
    }
    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        self.inner.subscribe(subscription).await
    }
    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.inner.inbox().await
    }
    async fn health(&self) -> Health {
        self.inner.health().await
    }
    fn events(&self) -> Events {
        self.inner.events()
    }

    fn namespace(&self, namespace: &str) -> Result<Arc<dyn Queue>> {
        Ok(Arc::new(Self { inner: self.inner.namespace(namespace)? }))
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

struct Crowded<'t, Q> {
    behind: Q,
    ready: &'t u64,
}

forward_admin! {
    impl['t, Q: Admin] Admin for Crowded<'t, Q> => behind {
        /// Counts more than there are.
        async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
            let mut stats = self.behind.stats(queue).await?;
            stats.ready += self.ready;
            Ok(stats)
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
    queue.publish_one(Q, Message::new("a")).await.unwrap();
    assert_eq!(queue.queues().await.unwrap(), [QueueSpec::new(Q)]);
    assert_eq!(queue.stats(&Q).await.unwrap().ready, 1);
    assert_eq!(queue.purge(&Q, Purge::Waiting).await.unwrap(), 1);
    assert!(
        queue.dead_letters(&Q, &DeadFilter::all(), Page::first(1)).await.unwrap().dead_letters.is_empty()
    );
    let nobody = [DeadId::new("nobody")];
    assert_eq!(queue.redrive(&Q, &nobody).await.unwrap(), [false]);
    assert_eq!(queue.discard(&Q, &nobody).await.unwrap(), [false]);
    let child = queue.namespace("elsewhere").unwrap();
    assert!(format!("{child:?}").starts_with("Plain"), "the child is wrapped too: {child:?}");
    assert!(child.queues().await.unwrap().is_empty());
    queue.delete(&Q).await.unwrap();
    assert!(queue.stats(&Q).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_is_written_by_hand_wins() {
    let memory =
        connect(&[polyqueue_memory::PROVIDER], ConnectOptions::new("memory://crowded")).await.unwrap();
    memory.declare(&QueueSpec::new(Q)).await.unwrap();
    memory.publish_one(Q, Message::new("a")).await.unwrap();
    let crowded = Crowded { behind: Plain { inner: memory }, ready: &7 };
    assert_eq!(crowded.stats(&Q).await.unwrap().ready, 8);
    assert_eq!(crowded.purge(&Q, Purge::Waiting).await.unwrap(), 0);
    assert_eq!(crowded.queues().await.unwrap().len(), 1, "the rest forwards");
}
