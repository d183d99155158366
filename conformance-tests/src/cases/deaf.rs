//! A queue whose extensions never get through: a worker on it has no heartbeat.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Consumer, Delivery, Destination, Extended, Info, Message, Published, Queue, QueueSpec, Receipt, Result,
    Settled, Subscription, Verdict, async_trait,
};

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

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(DeafConsumer(self.inner.subscribe(subscription).await?)))
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[derive(Debug)]
struct DeafConsumer(Box<dyn Consumer>);

#[async_trait]
impl Consumer for DeafConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        self.0.receive(max, wait).await
    }

    async fn settle(&self, verdicts: &[(Receipt, Verdict)]) -> Result<Vec<Result<Settled>>> {
        self.0.settle(verdicts).await
    }

    async fn extend(&self, _receipts: &[Receipt]) -> Result<Vec<Result<Extended>>> {
        std::future::pending().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}
