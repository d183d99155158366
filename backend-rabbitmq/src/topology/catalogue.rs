//! Which queues there are, in a stream that every handle of the namespace reads: AMQP itself cannot be asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::options::BasicConsumeOptions;
use lapin::types::{AMQPValue, FieldTable};
use parking_lot::Mutex;
use polyqueue::backend::EventSender;
use polyqueue::{Certainty, Error, Event, QueueName, QueueSpec, Result, RoutingKey};
use tokio::time::{Instant, sleep, timeout};

use crate::address::NAME;
use crate::connection::control::Control;
use crate::connection::control_channel::{ControlChannel, Deliveries};
use crate::connection::fault::{Answer, Refusal, if_there};
use crate::connection::request::PublishRequest;
use crate::topology::records::{AddressOwner, CatalogueEntry, KnownQueues, Record};

/// How many records are under way at a time.
const WINDOW: u16 = 500;
/// How long a stream that has records may show none.
const EMPTY: Duration = Duration::from_secs(5);
/// How long to wait before a stream that shows nothing is looked at again.
const AGAIN: Duration = Duration::from_millis(50);
/// How long to wait for others who read.
const TURN: Duration = Duration::from_secs(30);
/// Where a stream holds more than this, its oldest whole segments go.
const MAX_BYTES: i64 = 20 * 1024 * 1024;

/// The stream of one namespace, as far as this handle has read it.
#[derive(Debug)]
pub(crate) struct Catalogue {
    stream: String,
    known: Mutex<KnownQueues>,
    /// What was known when the broker lost everything, and was not made again since.
    lost: Mutex<BTreeMap<QueueName, Arc<QueueSpec>>>,
    /// How often the broker lost everything.
    losses: AtomicU64,
    events: EventSender,
    /// One reader at a time.
    turn: tokio::sync::Mutex<()>,
    /// A follower reads every record as it is written.
    live: AtomicBool,
}

impl Catalogue {
    pub(crate) fn new(stream: String, events: EventSender) -> Self {
        Self {
            stream,
            known: Mutex::default(),
            lost: Mutex::default(),
            losses: AtomicU64::new(0),
            events,
            turn: tokio::sync::Mutex::default(),
            live: AtomicBool::new(false),
        }
    }

    /// All queues, by name.
    pub(crate) fn queues(&self) -> Vec<QueueSpec> {
        self.known.lock().queues.values().map(|entry| (*entry.spec).clone()).collect()
    }

    /// A queue, as far as it was read.
    pub(crate) fn entry(&self, queue: &QueueName) -> Option<CatalogueEntry> {
        self.known.lock().queues.get(queue.as_str()).cloned()
    }

    /// The address of a queue, as far as it was read.
    pub(crate) fn address(&self, queue: &QueueName) -> Option<Arc<str>> {
        self.known.lock().queues.get(queue.as_str()).map(|entry| entry.address.clone())
    }

    /// The queues that a message to this topic is for, by name.
    pub(crate) fn matching(&self, key: &RoutingKey) -> Vec<CatalogueEntry> {
        let known = self.known.lock();
        known.queues.values().filter(|entry| entry.is_bound_to(key)).cloned().collect()
    }

    /// Whose an address is, as far as it was read.
    pub(crate) fn whose(&self, address: &str) -> AddressOwner {
        self.known.lock().whose(address)
    }

    /// Acts by a record before it is read.
    pub(crate) fn apply(&self, record: Record) {
        self.known.lock().apply(record);
    }

    /// Whether no record was ever read.
    pub(crate) fn is_unread(&self) -> bool {
        self.known.lock().next == 0
    }

    /// Whether a follower reads every record as it is written.
    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Relaxed)
    }

    /// Whether it was read within this time.
    pub(crate) fn is_fresh(&self, within: Duration) -> bool {
        self.known.lock().read_at.is_some_and(|at| at.elapsed() < within)
    }

    /// Remembers that this handle deletes the queue at this address.
    pub(crate) fn delete_here(&self, address: Arc<str>) {
        self.known.lock().deleted_here.insert(address);
    }

    /// Whether this handle deleted the queue at this address: what was in hand then has gone with it.
    pub(crate) fn was_deleted_here(&self, address: &str) -> bool {
        self.known.lock().deleted_here.contains(address)
    }

    /// How often the broker lost everything, as far as it was seen.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Relaxed)
    }

    /// A queue that went with everything else, and is not there again.
    pub(crate) fn lost(&self, queue: &QueueName) -> Option<Arc<QueueSpec>> {
        self.lost.lock().get(queue).cloned()
    }

    /// Those of them that are bound to a topic.
    pub(crate) fn lost_bound(&self) -> Vec<QueueName> {
        let lost = self.lost.lock();
        lost.values().filter(|spec| !spec.bindings.is_empty()).map(|spec| spec.name.clone()).collect()
    }

    /// It is there again, or is not to be.
    pub(crate) fn forget_lost(&self, queue: &QueueName) {
        self.lost.lock().remove(queue);
    }

    /// A request that appends a record.
    pub(crate) fn request(&self, record: &Record) -> PublishRequest {
        let body = serde_json::to_vec(record).unwrap_or_default().into();
        let properties = BasicProperties::default().with_delivery_mode(2);
        PublishRequest { exchange: String::new(), key: self.stream.clone(), properties, body }
    }

    /// The stream's name, and that of the exchange which says that the stream can be read.
    pub(crate) fn name(&self) -> &str {
        &self.stream
    }

    /// Whether the stream can be read: it is there, and its first record, too.
    pub(crate) async fn exists(&self, control: &Control) -> Result<bool> {
        Ok(if_there(control.find_exchange(&self.stream).await)?.is_some())
    }

    /// What the stream is declared with.
    pub(crate) fn arguments() -> FieldTable {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(MAX_BYTES));
        arguments
    }

    /// Reads to the end as it is now: whatever was confirmed before is known afterwards.
    pub(crate) async fn refresh(&self, control: &Control) -> Result<()> {
        let asked = Instant::now();
        let late = |_| Error::timeout("a turn at the catalogue", TURN, Certainty::Definite);
        let _turn = timeout(TURN, self.turn.lock()).await.map_err(late)?;
        if self.known.lock().read_at.is_some_and(|begun| begun > asked) {
            return Ok(()); // somebody has read since
        }
        let (begun, before) = (Instant::now(), self.known.lock().next);
        let tail = self.last_records(control).await?;
        let next = self.begin_at(before, tail.last().and_then(offset));
        if let Some((first, end)) = tail.first().and_then(offset).zip(tail.last().and_then(offset))
            && first > next
        {
            self.catch_up(control, next, end).await?;
        }
        let mut known = self.known.lock();
        for delivery in &tail {
            take(&mut known, delivery);
        }
        known.read_at = Some(begun);
        Ok(())
    }

    /// The last records; none where there is no catalogue. One that was read before is not asked first whether it is there.
    async fn last_records(&self, control: &Control) -> Result<Vec<Delivery>> {
        if !self.is_unread()
            && let Ok(tail) = self.tail(control).await
            && !tail.is_empty()
        {
            return Ok(tail);
        }
        if self.exists(control).await? { self.tail_in_time(control).await } else { Ok(Vec::new()) }
    }

    /// Where to go on reading. A stream that ends before what was read `before` its end was asked for is another: the broker was
    /// wiped. What a follower has read since proves nothing.
    fn begin_at(&self, before: i64, end: Option<i64>) -> i64 {
        let mut known = self.known.lock();
        if end.map_or(0, |end| end + 1) < before {
            let gone = std::mem::take(&mut *known).queues.into_values();
            self.lost.lock().extend(gone.map(|entry| (entry.spec.name.clone(), entry.spec)));
            self.losses.fetch_add(1, Relaxed);
            let detail = format!("the catalogue, the stream {:?}, is gone or empty", self.stream);
            self.events.send(Event::Wiped { detail });
        }
        known.next
    }

    /// The last records of a stream that has some. A broker that has just started may not show it yet: that is no answer.
    async fn tail_in_time(&self, control: &Control) -> Result<Vec<Delivery>> {
        let deadline = Instant::now() + EMPTY;
        loop {
            match self.tail(control).await {
                Ok(tail) if !tail.is_empty() => return Ok(tail),
                Err(Refusal::Taken(error) | Refusal::Failed(error)) => return Err(error),
                Ok(_) | Err(_) if Instant::now() >= deadline => {
                    let said = format!("its catalogue, the stream {:?}, cannot be read", self.stream);
                    return Err(Error::unavailable(NAME, Certainty::Definite, said));
                }
                Ok(_) | Err(_) => sleep(AGAIN).await,
            }
            // Where everything is being deleted, the stream goes before what says that it can be read.
            if !self.exists(control).await? {
                return Ok(Vec::new());
            }
        }
    }

    /// The last records. A stream's deliveries come on their own time, but all those of one chunk together: once the first is
    /// there, whatever follows it stands before the answer to the next command.
    async fn tail(&self, control: &Control) -> Answer<Vec<Delivery>> {
        let last = AMQPValue::LongString("last".into());
        let mut reader = self.read_from(control.dedicated().await?, last).await?;
        let mut tail = Vec::new();
        let Some(first) = timeout(EMPTY, reader.next()).await.unwrap_or(Ok(None))? else { return Ok(tail) };
        tail.push(first);
        reader.channel.prefetch(WINDOW).await?;
        while let Some(next) = reader.here()? {
            tail.push(next);
        }
        Ok(tail)
    }

    /// The records from `next` to `end`.
    async fn catch_up(&self, control: &Control, next: i64, end: i64) -> Answer<()> {
        let mut reader = self.read_from(control.dedicated().await?, starting(next)).await?;
        let stands_still = || Error::timeout("reading the catalogue", EMPTY, Certainty::Definite);
        while let Some(delivery) = timeout(EMPTY, reader.next()).await.map_err(|_| stands_still())?? {
            self.read(&reader.channel, &delivery).await?;
            if offset(&delivery).is_none_or(|offset| offset >= end) {
                break;
            }
        }
        Ok(())
    }

    /// A reader of all that is written from now on.
    pub(crate) async fn begin_to_follow(&self, control: &Control) -> Result<Deliveries> {
        self.refresh(control).await?;
        let from = starting(self.known.lock().next);
        Ok(self.read_from(control.lasting().await?, from).await?)
    }

    /// Reads on and on, until the channel ends: what was confirmed a moment ago is known a moment later.
    pub(crate) async fn follow(&self, mut reader: Deliveries) -> Result<()> {
        self.live.store(true, Relaxed);
        let _ended = Ended(&self.live);
        while let Some(delivery) = reader.next_while_alive(&self.stream).await? {
            self.read(&reader.channel, &delivery).await?;
        }
        Ok(())
    }

    /// Reads one record, and asks for more before the window is used up.
    async fn read(&self, channel: &ControlChannel, delivery: &Delivery) -> Answer<()> {
        take(&mut self.known.lock(), delivery);
        if delivery.delivery_tag.is_multiple_of(u64::from(WINDOW / 2)) {
            channel.ack_up_to(delivery.delivery_tag).await?;
        }
        Ok(())
    }

    async fn read_from(&self, channel: ControlChannel, offset: AMQPValue) -> Answer<Deliveries> {
        channel.prefetch(WINDOW).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), offset);
        channel.consume(&self.stream, BasicConsumeOptions::default(), arguments).await
    }
}

/// Says, however it ends, that nobody follows any more.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

fn starting(next: i64) -> AMQPValue {
    match next {
        0 => AMQPValue::LongString("first".into()),
        next => AMQPValue::LongLongInt(next),
    }
}

fn take(known: &mut KnownQueues, delivery: &Delivery) {
    if let Some(offset) = offset(delivery) {
        known.take(offset, &delivery.data);
    }
}

fn offset(delivery: &Delivery) -> Option<i64> {
    let headers = delivery.properties.headers().as_ref()?;
    match headers.inner().get("x-stream-offset") {
        Some(AMQPValue::LongLongInt(offset)) => Some(*offset),
        _ => None,
    }
}
