//! The contract's two halves over a broker in this process.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use polyqueue::{
    Admin, Bytes, ConnectOptions, Consumer, DeadFilter, DeadId, DeadPage, Destination, Error, Health, Inbox,
    Info, Message, MessageId, Page, Pattern, Published, Purge, Queue, QueueName, QueueSpec, QueueStats,
    Reschedule, Result, Subscription,
};

use crate::PROVIDER;
use crate::address::{Address, DEFAULT_MAX_BYTES};
use crate::broker::Broker;
use crate::cell::Cell;
use crate::clock::whole_millis;
use crate::consumer::MemoryConsumer;
use crate::handle::Handle;
use crate::line::{Item, Line};

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
        Self::open(Broker::private(bytes), &options.namespace, options.clock_offset)
    }

    /// A handle to the broker that the URL names, as [`PROVIDER`] makes it. Calls end at once, within any deadline.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything but `memory://NAME?max_bytes=…`, or when that broker is open with another maximum.
    pub fn connect(options: &ConnectOptions) -> Result<Self> {
        let broker = Broker::at(&Address::parse(&options.url)?)?;
        Ok(Self::open(broker, &options.namespace, options.clock_offset))
    }

    fn open(broker: Arc<Broker>, namespace: &str, clock_offset: TimeDelta) -> Self {
        Self { handle: Arc::new(Handle::new(broker, namespace, clock_offset)) }
    }

    fn queue(&self, name: &QueueName) -> Result<Arc<Cell>> {
        self.handle.check_open()?;
        self.handle.queue(name)
    }

    /// Puts bytes where a message would be, as a broken client of another broker might: to see what an application does
    /// about the dead letter, `undecodable`, that a receive makes of them.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown queue, [`Error::Full`] beyond the budget, [`Error::Closed`].
    pub fn publish_unreadable(&self, queue: &QueueName, bytes: impl Into<Bytes>) -> Result<()> {
        let bytes = bytes.into();
        let cell = self.queue(queue)?;
        let room = self.handle.budget.reserve(&Message::new(bytes.clone()))?;
        cell.call(|line| store(line, queue, [Item::unreadable(bytes, room)]))
    }

    /// What is stored of a message: it knows when it was published, and takes room.
    fn item(&self, message: Message, now: DateTime<Utc>) -> Result<Box<Item>> {
        let at = message.published_at().map_or(now, |at| whole_millis(at.timestamp_millis()));
        let message = message.with_published_at(at);
        let room = self.handle.budget.reserve(&message)?;
        Ok(Item::new(message, room))
    }
}

fn store(line: &mut Line, queue: &QueueName, items: impl IntoIterator<Item = Box<Item>>) -> Result<()> {
    if line.is_deleted() {
        return Err(Error::not_found(queue.clone()));
    }
    line.publish(items);
    Ok(())
}

/// What this backend is still to learn is refused, never ignored.
fn not_yet(what: &str) -> Error {
    Error::unsupported(PROVIDER.name(), format!("{what} yet"))
}

fn check_known(to: &Destination, batch: &[Message]) -> Result<()> {
    let new = |m: &Message| m.ttl().is_some() || m.dedup_key().is_some() || m.reply_to().is_some();
    match to {
        Destination::Queue(_) if !batch.iter().any(new) => Ok(()),
        _ => Err(not_yet("topics, replies, ttl and dedup")),
    }
}

fn check_plain(spec: &QueueSpec) -> Result<()> {
    if *spec == QueueSpec::new(spec.name.clone()) {
        Ok(())
    } else {
        Err(not_yet("bindings, bounds, retention and dedup"))
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
        self.handle.check_open()?;
        check_plain(spec)?;
        let clock = self.handle.clock;
        self.handle.queues.write().entry(spec.name.clone()).or_insert_with(|| {
            tracing::debug!(name: "memory.queue_declared", queue = %spec.name);
            Arc::new(Cell::new(spec.name.clone(), clock))
        });
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
        check_known(to, &batch)?;
        let Destination::Queue(name) = to else { return Err(not_yet("topics and replies")) };
        let queue = self.queue(name)?;
        let now = self.handle.wall();
        let mut answers = Vec::with_capacity(batch.len());
        let mut items = Vec::with_capacity(batch.len());
        for message in batch {
            let id = message.id().clone();
            answers.push(self.item(message, now).map(|item| {
                items.push(item);
                Published::stored(id)
            }));
        }
        let stored = items.len() as u64;
        queue.call(|line| store(line, name, items))?;
        self.handle.meter.of(name).published(stored);
        Ok(answers)
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        self.handle.check_open()?;
        self.handle.limits.check_subscription(subscription)?;
        let queue = self.queue(&subscription.queue)?;
        Ok(Box::new(MemoryConsumer::join(&self.handle, queue, subscription)?))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        Err(not_yet("inboxes"))
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
        Ok(self.handle.queues.read().keys().cloned().map(QueueSpec::new).collect())
    }

    async fn unbind(&self, _: &QueueName, _: &Pattern) -> Result<()> {
        Err(not_yet("topics"))
    }

    async fn reschedule(&self, _: &QueueName, _: &MessageId, _: Reschedule) -> Result<bool> {
        Err(not_yet("rescheduling"))
    }

    async fn delete(&self, queue: &QueueName) -> Result<()> {
        self.handle.check_open()?;
        let cell = self.handle.queues.write().remove(queue);
        cell.ok_or_else(|| Error::not_found(queue.clone()))?.call(|line| line.delete());
        tracing::debug!(name: "memory.queue_deleted", %queue);
        Ok(())
    }

    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        let stats = self.queue(queue)?.call(|line| line.stats());
        Ok(QueueStats { counters: self.handle.meter.of(queue).snapshot(), ..stats })
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
