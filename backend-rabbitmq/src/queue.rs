//! The handle: both halves of the contract.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Admin, Certainty, ConnectOptions, Consumer, DeadFilter, DeadId, DeadPage, DedupStore, Destination, Error,
    Events, Health, Inbox, Info, Message, MessageId, Page, Pattern, Published, Purge, Queue, QueueName,
    QueueSpec, QueueStats, Reschedule, Result, Subscription, async_trait,
};

use crate::address::{Address, NAME};
use crate::admin::health::health;
use crate::admin::purge::purge;
use crate::admin::stats::stats;
use crate::connection::handle::Handle;
use crate::consume::consumer::RabbitConsumer;
use crate::dead::listing::dead_letters;
use crate::dead::redrive::{discard, redrive};
use crate::dead::state::DeadLetters;
use crate::delay::wheel::Wheel;
use crate::inbox::reader::RabbitInbox;
use crate::publish::backpressure;
use crate::publish::dispatch::dispatch;
use crate::publish::state::Publishing;
use crate::topology::declare::{declare, unbind};
use crate::topology::delete::delete;
use crate::topology::lookup::queues;
use crate::topology::state::Topology;
use crate::wire::names::Names;

/// Acks of a classic queue that are younger may be undone by a crash of the broker. 250 ms at rest; an ack of 730 ms was
/// undone on an overloaded machine.
const ACK_WINDOW: Duration = Duration::from_secs(1);

/// A handle to a RabbitMQ broker.
pub(crate) struct RabbitQueue {
    dead: Arc<DeadLetters>,
}

impl RabbitQueue {
    pub(crate) async fn connect(options: ConnectOptions) -> Result<Self> {
        let address = Address::parse(&options.url, &options.tls)?;
        let handle = Handle::connect(address, &options).await?;
        let wheel = Arc::new(Wheel::new(handle.clone()));
        Ok(Self::new(handle, wheel, options.namespace, options.dedup_store))
    }

    fn new(
        handle: Arc<Handle>,
        wheel: Arc<Wheel>,
        namespace: String,
        dedup_store: Option<Arc<dyn DedupStore>>,
    ) -> Self {
        let topology = Arc::new(Topology::new(handle, Names::new(namespace), dedup_store.is_some()));
        let publishing = Arc::new(Publishing::new(topology, wheel, dedup_store));
        Self { dead: Arc::new(DeadLetters::new(publishing)) }
    }

    /// For tests: whose calls get no answer.
    #[cfg(test)]
    pub(crate) fn starved(&self) -> crate::connection::starved::Starved {
        self.handle().starved()
    }

    fn publishing(&self) -> &Arc<Publishing> {
        &self.dead.publishing
    }

    fn topology(&self) -> &Arc<Topology> {
        &self.publishing().topology
    }

    fn handle(&self) -> &Arc<Handle> {
        &self.topology().handle
    }
}

#[async_trait]
impl Queue for RabbitQueue {
    fn info(&self) -> Info {
        Info::new(NAME).durable_and_shared().with_ack_window(ACK_WINDOW).without_atomic_moves()
    }

    async fn declare(&self, spec: &QueueSpec) -> Result<()> {
        self.handle().limits.check_spec(spec)?;
        backpressure::check(spec)?;
        self.handle().bounded("declare", declare(self.topology(), spec)).await
    }

    async fn publish(&self, to: &Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        self.handle().begin().await?;
        self.handle().limits.check(to, &batch)?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let published = dispatch(self.publishing(), to, batch).await;
        if self.handle().check_open().is_ok() {
            return published;
        }
        // What ended in vain because the handle was closed says so.
        let closed = |error: Error| match error.certainty() {
            Certainty::Definite => Error::Closed,
            Certainty::Unknown => error,
        };
        let results = published.map_err(closed)?;
        Ok(results.into_iter().map(|result| result.map_err(closed)).collect())
    }

    async fn reschedule(&self, _: &QueueName, _: &MessageId, to: Reschedule) -> Result<bool> {
        self.handle().begin().await?;
        self.handle().limits.check_reschedule(to)?;
        let what = "rescheduling: a delayed message cannot be found by its id; memory and redis can";
        Err(Error::unsupported(NAME, what))
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        self.handle().begin().await?;
        self.handle().limits.check_subscription(subscription)?;
        self.publishing().wheel.stand_by_if_used();
        let begin = RabbitConsumer::begin(self.dead.clone(), subscription.clone());
        Ok(Box::new(self.handle().bounded("subscribe", begin).await?))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.handle().begin().await?;
        let opened = RabbitInbox::open(self.topology().clone());
        Ok(Box::new(self.handle().bounded("inbox", opened).await?))
    }

    async fn health(&self) -> Health {
        health(self.publishing()).await
    }

    fn events(&self) -> Events {
        self.handle().events.events(&self.handle().lifecycle)
    }

    fn namespace(&self, namespace: &str) -> Result<Arc<dyn Queue>> {
        self.handle().check_open()?;
        self.handle().limits.check_namespace(namespace)?;
        let store = self.publishing().dedup.store.clone();
        let wheel = self.publishing().wheel.clone();
        Ok(Arc::new(Self::new(self.handle().child(namespace)?, wheel, namespace.to_owned(), store)))
    }

    async fn close(&self) -> Result<()> {
        self.handle().close().await;
        Ok(())
    }
}

#[async_trait]
impl Admin for RabbitQueue {
    async fn queues(&self) -> Result<Vec<QueueSpec>> {
        self.handle().bounded("queues", queues(self.topology())).await
    }

    async fn unbind(&self, queue: &QueueName, pattern: &Pattern) -> Result<()> {
        self.handle().bounded("unbind", unbind(self.topology(), queue, pattern)).await
    }

    async fn delete(&self, queue: &QueueName) -> Result<()> {
        self.handle().bounded("delete", delete(self.topology(), queue)).await
    }

    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        self.handle().bounded("stats", stats(&self.dead, queue)).await
    }

    async fn purge(&self, queue: &QueueName, what: Purge) -> Result<u64> {
        self.handle().bounded("purge", purge(&self.dead, queue, what)).await
    }

    async fn dead_letters(&self, queue: &QueueName, filter: &DeadFilter, page: Page) -> Result<DeadPage> {
        page.check()?;
        self.handle().bounded("dead_letters", dead_letters(&self.dead, queue, filter, page)).await
    }

    async fn redrive(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        self.handle().bounded("redrive", redrive(&self.dead, queue, ids)).await
    }

    async fn discard(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        self.handle().bounded("discard", discard(&self.dead, queue, ids)).await
    }
}

impl fmt::Debug for RabbitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitQueue").field("address", &self.handle().address).finish_non_exhaustive()
    }
}
