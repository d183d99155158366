//! The contract's two halves over a broker in this process.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use polyqueue::{
    Admin, Bytes, ConnectOptions, Consumer, DeadFilter, DeadId, DeadPage, Destination, Error, Health, Inbox,
    Info, Message, MessageId, Page, Pattern, Published, Purge, Queue, QueueName, QueueSpec, QueueStats,
    ReplyAddress, Reschedule, Result, Subscription,
};

use crate::PROVIDER;
use crate::address::{Address, DEFAULT_MAX_BYTES};
use crate::broker::Broker;
use crate::consumer::MemoryConsumer;
use crate::desk::Desk;
use crate::handle::Handle;
use crate::inbox::MemoryInbox;
use crate::line::Item;
use crate::publish::Publish;

/// A handle to a broker in this process.
///
/// [`MemoryQueue::new`] makes a broker of its own, for unit tests; [`PROVIDER`] joins one by its name. The broker dies
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
        let options = ConnectOptions::new(PROVIDER.default_url());
        Self::open(Broker::private(bytes), &options)
    }

    /// A handle to the broker that the URL names, as [`PROVIDER`] makes it. Calls end at once, within any deadline.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything but `memory://NAME?max_bytes=…`, or when that broker is open with another maximum;
    /// [`Error::Unsupported`] for a [`DedupStore`](polyqueue::DedupStore), since this broker remembers keys itself.
    pub fn connect(options: &ConnectOptions) -> Result<Self> {
        if options.dedup_store.is_some() {
            let what = "a dedup store: this broker remembers dedup keys itself";
            return Err(Error::unsupported(PROVIDER.name(), what));
        }
        Ok(Self::open(Broker::at(&Address::parse(&options.url)?)?, options))
    }

    fn open(broker: Arc<Broker>, options: &ConnectOptions) -> Self {
        Self { handle: Arc::new(Handle::new(broker, options)) }
    }

    fn queue(&self, name: &QueueName) -> Result<Desk> {
        self.handle.check_open()?;
        self.handle.desk(name)
    }

    /// Puts bytes where a message would be, as a broken client of another broker might: to see what an application does
    /// about the dead letter, `undecodable`, that a receive makes of them.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown queue, [`Error::Full`] beyond the budget, [`Error::Closed`].
    pub fn publish_unreadable(&self, queue: &QueueName, bytes: impl Into<Bytes>) -> Result<()> {
        let bytes = bytes.into();
        let desk = self.queue(queue)?;
        let room = self.handle.budget.reserve(&Message::new(bytes.clone()))?;
        desk.call(|line| {
            if line.is_deleted() {
                return Err(Error::not_found(queue));
            }
            line.enter(Item::unreadable(bytes, room));
            line.announce();
            Ok(())
        })
    }

    fn reply(&self, to: &ReplyAddress, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        let now = self.handle.wall();
        let ids: Vec<MessageId> = batch.iter().map(|reply| reply.id().clone()).collect();
        let replies = batch.into_iter().map(|reply| self.handle.keep(reply, now));
        let put = self.handle.namespace.mailboxes.put(to, replies)?;
        Ok(put.into_iter().zip(ids).map(|(put, id)| put.map(|()| Published::stored(id))).collect())
    }
}

impl Default for MemoryQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryQueue").field("open", &self.handle.check_open().is_ok()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    fn info(&self) -> Info {
        Info::new(PROVIDER.name())
    }

    async fn declare(&self, spec: &QueueSpec) -> Result<()> {
        self.handle.limits.check_spec(spec)?;
        self.handle.check_open()?;
        if self.handle.namespace.routes.write().declare(spec, self.handle.clock)? {
            tracing::debug!(name: "memory.queue_declared", queue = %spec.name);
        }
        Ok(())
    }

    async fn publish(&self, to: &Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        self.handle.limits.check(to, &batch)?;
        self.handle.check_open()?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        // Before anything happens: a publish that is dropped here was never stored.
        tokio::task::coop::consume_budget().await;
        match to {
            Destination::Reply(address) => self.reply(address, batch),
            _ => Publish::new(&self.handle, to, batch).await,
        }
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        self.handle.check_open()?;
        self.handle.limits.check_subscription(subscription)?;
        let queue = self.queue(&subscription.queue)?;
        Ok(Box::new(MemoryConsumer::join(&self.handle, queue, subscription)?))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.handle.check_open()?;
        Ok(Box::new(MemoryInbox::open(&self.handle)?))
    }

    async fn close(&self) -> Result<()> {
        if self.handle.close() {
            tracing::debug!(name: "memory.handle_closed", "closed");
        }
        Ok(())
    }
}

#[async_trait]
impl Admin for MemoryQueue {
    async fn queues(&self) -> Result<Vec<QueueSpec>> {
        self.handle.check_open()?;
        Ok(self.handle.namespace.routes.read().specs())
    }

    async fn unbind(&self, queue: &QueueName, pattern: &Pattern) -> Result<()> {
        self.handle.check_open()?;
        self.handle.namespace.routes.write().unbind(queue, pattern)
    }

    async fn reschedule(&self, queue: &QueueName, id: &MessageId, to: Reschedule) -> Result<bool> {
        self.handle.limits.check_reschedule(to)?;
        Ok(self.queue(queue)?.call(|line| line.reschedule(id, to)))
    }

    async fn delete(&self, queue: &QueueName) -> Result<()> {
        self.handle.check_open()?;
        let cell =
            self.handle.namespace.routes.write().remove(queue).ok_or_else(|| Error::not_found(queue))?;
        Desk::new(cell, self.handle.meter.of(queue)).call(|line| line.delete());
        tracing::debug!(name: "memory.queue_deleted", %queue);
        Ok(())
    }

    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        let desk = self.queue(queue)?;
        let stats = desk.call(|line| line.stats());
        Ok(QueueStats { counters: desk.meter.snapshot(), ..stats })
    }

    async fn purge(&self, queue: &QueueName, what: Purge) -> Result<u64> {
        let removed = self.queue(queue)?.call(|line| line.purge(what));
        tracing::debug!(name: "memory.queue_purged", %queue, ?what, removed);
        Ok(removed)
    }

    async fn dead_letters(&self, queue: &QueueName, filter: &DeadFilter, page: Page) -> Result<DeadPage> {
        self.handle.check_open()?;
        page.check()?;
        self.queue(queue)?.call(|line| line.dead_letters(filter, &page))
    }

    async fn redrive(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        Ok(self.queue(queue)?.call(|line| ids.iter().map(|id| line.redrive(id)).collect()))
    }

    async fn discard(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        Ok(self.queue(queue)?.call(|line| ids.iter().map(|id| line.discard(id)).collect()))
    }

    async fn health(&self) -> Health {
        match self.handle.check_open() {
            Ok(()) => Health::good(PROVIDER.name()),
            Err(closed) => Health::bad(PROVIDER.name(), closed.to_string()),
        }
    }
}
