//! A queue whose extensions never get through: a worker on it has no heartbeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use polyqueue::{
    Consumer, Delivery, Destination, Events, Extended, Health, Inbox, Info, Message, MessageId, Published,
    Queue, QueueName, QueueSpec, Receipt, Reschedule, Result, Settled, Subscription, Verdict, async_trait,
};
use tokio::sync::Notify;
use tokio::time::timeout;

/// Like the queue within, but extensions are never answered.
#[derive(Debug)]
pub(super) struct Deaf {
    pub(super) inner: Arc<dyn Queue>,
}

polyqueue::forward_admin! {
    impl Admin for Deaf => inner
}

#[async_trait]
impl Queue for Deaf {
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
        let inner = self.inner.subscribe(subscription).await?;
        Ok(Box::new(DeafConsumer { inner, served: AtomicBool::new(false), closed: Notify::new() }))
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

/// Receives once only, so that what it loses goes to somebody else.
#[derive(Debug)]
struct DeafConsumer {
    inner: Box<dyn Consumer>,
    served: AtomicBool,
    closed: Notify,
}

#[async_trait]
impl Consumer for DeafConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        if self.served.load(SeqCst) {
            let _ = timeout(wait, self.closed.notified()).await;
            return Ok(vec![]);
        }
        let came = self.inner.receive(max, wait).await?;
        self.served.store(!came.is_empty(), SeqCst);
        Ok(came)
    }

    async fn settle(&self, verdicts: &[(Receipt, Verdict)]) -> Result<Vec<Result<Settled>>> {
        self.inner.settle(verdicts).await
    }

    async fn extend(&self, _receipts: &[Receipt]) -> Result<Vec<Result<Extended>>> {
        std::future::pending().await
    }

    async fn close(&self) -> Result<()> {
        self.closed.notify_one();
        self.inner.close().await
    }
}
