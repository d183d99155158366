//! The contract's two halves over a broker in this process.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use polyqueue::backend::EventSender;
use polyqueue::{
    Admin, Bytes, Certainty, ConnectOptions, Consumer, DeadFilter, DeadId, DeadPage, Destination, Error,
    Events, Health, Inbox, Info, Message, MessageId, Page, Pattern, Published, Purge, Queue, QueueName,
    QueueSpec, QueueStats, Reschedule, Result, Subscription, TlsOptions,
};
use tokio::task::coop::consume_budget;

use crate::address::{Address, DEFAULT_MAX_BYTES, DEFAULT_URL, NAME};
use crate::broker::namespace::Broker;
use crate::broker::queue_ref::QueueRef;
use crate::broker::state::admin::DeadPurge;
use crate::broker::state::dead_letters::Listing;
use crate::broker::state::queue_state::QueueState;
use crate::broker::state::reschedule::Rescheduling;
use crate::broker::state::{admin, redrive, reschedule};
use crate::connection::handle::Handle;
use crate::consume::consumer::MemoryConsumer;
use crate::inbox::reader::MemoryInbox;
use crate::publish::dispatch;
use crate::topology::declare;

/// A handle to a broker in this process.
///
/// [`MemoryQueue::new`] makes a broker of its own, for unit tests; [`PROVIDER`](crate::PROVIDER) joins one by its name. The broker dies
/// with its last open handle.
///
/// ```
/// use std::time::Duration;
/// use polyqueue::{Message, Queue, QueueName, Subscription};
/// use polyqueue_memory::MemoryQueue;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> polyqueue::Result<()> {
/// const MAIL: QueueName = QueueName::from_static("mail");
/// let queue = MemoryQueue::new();
/// queue.declare(&MAIL.into()).await?;
/// queue.publish(&MAIL.into(), vec![Message::new("hello")]).await?;
/// let consumer = queue.subscribe(&Subscription::new(MAIL)).await?;
/// let delivery = &consumer.receive(1, Duration::ZERO).await?[0];
/// assert_eq!(delivery.message.payload(), "hello");
/// # Ok(())
/// # }
/// ```
pub struct MemoryQueue {
    handle: Arc<Handle>,
}

impl MemoryQueue {
    /// A handle to a new broker that nobody else can join, with room for 1 GiB.
    pub fn new() -> Self {
        Self::with_max_bytes(DEFAULT_MAX_BYTES)
    }

    /// The same with room for `bytes`: payloads, headers and texts, and 256 bytes for each message.
    pub fn with_max_bytes(bytes: u64) -> Self {
        let options = ConnectOptions::new(DEFAULT_URL);
        Self::open(Broker::private(bytes), &options)
    }

    /// A handle to the broker that the URL names, as [`PROVIDER`](crate::PROVIDER) makes it. Calls end at once, and by the
    /// deadline where very much has become due.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything but `memory://NAME?max_bytes=…`, when that broker is open with another maximum, and for a
    /// namespace, deadline or clock offset that [`ConnectOptions::check`] refuses;
    /// [`Error::Unsupported`] for a [`DedupStore`](polyqueue::DedupStore), since this broker remembers keys itself.
    pub fn connect(options: &ConnectOptions) -> Result<Self> {
        options.check()?;
        refuse_what_it_has_not(options)?;
        Ok(Self::open(Broker::at(&Address::parse(&options.url)?)?, options))
    }

    /// A handle to this broker, whatever the URL says.
    ///
    /// # Errors
    /// As [`MemoryQueue::connect`].
    pub(crate) fn at(broker: Arc<Broker>, options: &ConnectOptions) -> Result<Self> {
        refuse_what_it_has_not(options)?;
        Ok(Self::open(broker, options))
    }

    /// Where it tells what happens to it.
    pub(crate) fn event_sender(&self) -> EventSender {
        self.handle.events.clone()
    }

    fn open(broker: Arc<Broker>, options: &ConnectOptions) -> Self {
        Self { handle: Arc::new(Handle::new(broker, options)) }
    }

    fn queue(&self, name: &QueueName) -> Result<QueueRef> {
        self.handle.lifecycle.check_open()?;
        self.handle.queue(name)
    }

    async fn each_letter(
        &self,
        what: &'static str,
        queue: &QueueName,
        ids: &[DeadId],
        act: fn(&mut QueueState, &DeadId) -> bool,
    ) -> Result<Vec<bool>> {
        let deadline = self.handle.deadline(what);
        let (answers, ended) = self.queue(queue)?.each(deadline, ids, |state, _, id| act(state, id)).await;
        match ended {
            Ok(()) => Ok(answers),
            Err(late) if answers.is_empty() => Err(late),
            Err(_) => Err(deadline.error(Certainty::Unknown)),
        }
    }

    /// Puts bytes where a message would be, as a broken client of another broker might: to see what an application does
    /// about the dead letter, `undecodable`, that a receive makes of them.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown queue, [`Error::Full`] beyond the budget, [`Error::Closed`].
    pub fn publish_unreadable(&self, queue: &QueueName, bytes: impl Into<Bytes>) -> Result<()> {
        self.handle.lifecycle.check_open()?;
        dispatch::publish_unreadable(&self.handle, queue, bytes.into())
    }
}

fn refuse_what_it_has_not(options: &ConnectOptions) -> Result<()> {
    if options.dedup_store.is_some() {
        return Err(Error::unsupported(NAME, "a dedup store: this broker remembers dedup keys itself"));
    }
    if options.tls != TlsOptions::default() {
        return Err(Error::unsupported(
            NAME,
            "encryption: nothing leaves this process, leave ConnectOptions::tls out",
        ));
    }
    Ok(())
}

impl Default for MemoryQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryQueue")
            .field("open", &self.handle.lifecycle.check_open().is_ok())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    fn info(&self) -> Info {
        Info::new(NAME)
    }

    async fn declare(&self, spec: &QueueSpec) -> Result<()> {
        consume_budget().await;
        self.handle.limits.check_spec(spec)?;
        self.handle.lifecycle.check_open()?;
        declare::declare(&self.handle, spec)
    }

    async fn publish(&self, to: &Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        // Before anything happens: a publish that is dropped here was never stored.
        consume_budget().await;
        self.handle.limits.check(to, &batch)?;
        self.handle.lifecycle.check_open()?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        dispatch::publish(&self.handle, to, batch).await
    }

    async fn reschedule(&self, queue: &QueueName, id: &MessageId, to: Reschedule) -> Result<bool> {
        consume_budget().await;
        self.handle.limits.check_reschedule(to)?;
        let mut work = Rescheduling::new(id, to);
        let deadline = self.handle.deadline("reschedule");
        self.queue(queue)?.call_in_parts(deadline, |state| reschedule::reschedule(state, &mut work)).await?;
        Ok(work.found)
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        consume_budget().await;
        self.handle.lifecycle.check_open()?;
        self.handle.limits.check_subscription(subscription)?;
        let queue = self.queue(&subscription.queue)?;
        Ok(Box::new(MemoryConsumer::join(&self.handle, queue, subscription)?))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        consume_budget().await;
        self.handle.lifecycle.check_open()?;
        Ok(Box::new(MemoryInbox::open(&self.handle)?))
    }

    async fn health(&self) -> Health {
        consume_budget().await;
        match (self.handle.lifecycle.check_open(), self.handle.budget.blocked()) {
            (Ok(()), None) => Health::good(NAME),
            (Ok(()), Some(why)) => Health::bad(NAME, why),
            (Err(closed), _) => Health::bad(NAME, closed.to_string()),
        }
    }

    fn events(&self) -> Events {
        self.handle.events.events(&self.handle.lifecycle)
    }

    fn namespace(&self, namespace: &str) -> Result<Arc<dyn Queue>> {
        self.handle.lifecycle.check_open()?;
        self.handle.limits.check_namespace(namespace)?;
        Ok(Arc::new(Self { handle: self.handle.child(namespace)? }))
    }

    async fn close(&self) -> Result<()> {
        consume_budget().await;
        if self.handle.close() {
            tracing::debug!(name: "memory.handle_closed", "closed");
        }
        Ok(())
    }
}

/// Every verb takes its turn among the tasks of the runtime, so that whoever calls one again and again lets the others run.
#[async_trait]
impl Admin for MemoryQueue {
    async fn queues(&self) -> Result<Vec<QueueSpec>> {
        consume_budget().await;
        self.handle.lifecycle.check_open()?;
        Ok(self.handle.namespace.specs())
    }

    async fn unbind(&self, queue: &QueueName, pattern: &Pattern) -> Result<()> {
        consume_budget().await;
        self.handle.lifecycle.check_open()?;
        declare::unbind(&self.handle, queue, pattern)
    }

    async fn delete(&self, queue: &QueueName) -> Result<()> {
        consume_budget().await;
        self.handle.lifecycle.check_open()?;
        declare::delete(&self.handle, queue).await
    }

    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        consume_budget().await;
        let queue_ref = self.queue(queue)?;
        let mut stats = queue_ref.call(self.handle.deadline("stats"), |state| admin::stats(state)).await?;
        stats.counters = queue_ref.meter.snapshot();
        Ok(stats)
    }

    async fn purge(&self, queue: &QueueName, what: Purge) -> Result<u64> {
        consume_budget().await;
        let queue_ref = self.queue(queue)?;
        let deadline = self.handle.deadline("purge");
        let removed = match what {
            Purge::Waiting => {
                let removed = queue_ref.call(deadline, admin::purge_waiting).await?;
                // What was removed is let go of, while there is time; it is gone in any case.
                let _ = queue_ref.call(deadline, |_| ()).await;
                removed
            }
            Purge::Dead => {
                let mut purge = DeadPurge::default();
                let ended =
                    queue_ref.call_in_parts(deadline, |state| admin::purge_dead(state, &mut purge)).await;
                ended.map_err(
                    |late| if purge.removed > 0 { deadline.error(Certainty::Unknown) } else { late },
                )?;
                purge.removed
            }
        };
        tracing::debug!(name: "memory.queue_purged", %queue, ?what, removed, "messages were removed");
        Ok(removed)
    }

    async fn dead_letters(&self, queue: &QueueName, filter: &DeadFilter, page: Page) -> Result<DeadPage> {
        consume_budget().await;
        self.handle.lifecycle.check_open()?;
        page.check()?;
        let queue_ref = self.queue(queue)?;
        let mut listing = Listing::new(filter, &page)?;
        let deadline = self.handle.deadline("listing dead letters");
        queue_ref.call_in_parts(deadline, |state| redrive::read_on(state, &mut listing)).await?;
        Ok(listing.page())
    }

    async fn redrive(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        consume_budget().await;
        self.each_letter("redrive", queue, ids, redrive::redrive).await
    }

    async fn discard(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        consume_budget().await;
        self.each_letter("discard", queue, ids, redrive::discard).await
    }
}
