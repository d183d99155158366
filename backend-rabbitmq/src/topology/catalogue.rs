//! Which queues there are, in a stream that every handle of the namespace reads: AMQP itself cannot be asked.
//!
//! It is a listing, and no truth: nothing that is published or received waits for it. Each connection reads it anew, so that
//! one that was emptied or replaced is no other case.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};
use parking_lot::Mutex;
use polyqueue::backend::EventSender;
use polyqueue::{Event, QueueName, QueueSpec, RoutingKey};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::connection::request::PublishRequest;
use crate::topology::known::{AddressOwner, KnownQueues};
use crate::topology::recent::Recent;
use crate::topology::records::{CatalogueEntry, Record};

/// Where a stream holds more than this, its oldest whole segments go.
const MAX_BYTES: i64 = 20 * 1024 * 1024;
const SEGMENT_BYTES: i64 = 1024 * 1024;
/// A snapshot that is larger is not written: each connection would have to read it.
const MAX_SNAPSHOT: usize = 8 * 1024 * 1024;
/// The header that says where to begin to read, for all that a snapshot says and what was written since.
const FROM: &str = "x-pq-from";
/// The record's offset, by the broker.
const OFFSET: &str = "x-stream-offset";

/// The stream of one namespace, as far as this handle has read it.
#[derive(Debug)]
pub(crate) struct Catalogue {
    stream: String,
    known: Mutex<KnownQueues>,
    /// What was known when the broker lost everything, and was not made again since.
    lost: Mutex<BTreeMap<QueueName, CatalogueEntry>>,
    /// How often the broker lost everything.
    losses: AtomicU64,
    events: EventSender,
    /// Those who wait for their marks.
    marks: Mutex<HashMap<String, oneshot::Sender<()>>>,
    /// One reader at a time begins or writes its mark.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// The number of who reads every record as it is written; 0 is nobody.
    live: AtomicU64,
    /// How many there were.
    followers: AtomicU64,
    /// Ended by this handle.
    deleted_here: Mutex<Recent>,
    /// The connection over which it could not be read the last time.
    unreadable: Mutex<Option<u64>>,
    /// The connection over which the stream itself was looked for.
    looked_for: Mutex<Option<u64>>,
    /// Queues that are there, and not listed.
    unlisted: Mutex<HashSet<QueueName>>,
}

impl Catalogue {
    pub(crate) fn new(stream: String, events: EventSender) -> Self {
        Self {
            stream,
            known: Mutex::default(),
            lost: Mutex::default(),
            losses: AtomicU64::new(0),
            events,
            marks: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            live: AtomicU64::new(0),
            followers: AtomicU64::new(0),
            deleted_here: Mutex::default(),
            unreadable: Mutex::default(),
            looked_for: Mutex::default(),
            unlisted: Mutex::default(),
        }
    }

    /// The stream's name, and that of the exchange which says that the stream can be read.
    pub(crate) fn name(&self) -> &str {
        &self.stream
    }

    /// All queues, by name.
    pub(crate) fn queues(&self) -> Vec<QueueSpec> {
        self.known.lock().queues.all().map(|entry| (*entry.spec).clone()).collect()
    }

    /// A queue, as far as it was read.
    pub(crate) fn entry(&self, queue: &QueueName) -> Option<CatalogueEntry> {
        self.known.lock().queues.get(queue).cloned()
    }

    /// A deletion of a queue of this name that has begun, and has not ended.
    pub(crate) fn being_deleted(&self, queue: &QueueName) -> Option<CatalogueEntry> {
        self.known.lock().being_deleted(queue)
    }

    /// The queues that a message to this topic is for, by name.
    pub(crate) fn matching(&self, key: &RoutingKey) -> Vec<CatalogueEntry> {
        self.known.lock().queues.matching(key).cloned().collect()
    }

    /// Whose an address is, as far as it was read.
    pub(crate) fn whose(&self, address: &str) -> AddressOwner {
        self.known.lock().whose(address)
    }

    /// Acts by a record before it is read.
    pub(crate) fn apply(&self, record: Record) {
        self.known.lock().apply(record);
    }

    /// When the last reading began that has come to its end.
    pub(crate) fn read_at(&self) -> Option<Instant> {
        self.known.lock().read_at
    }

    /// Whether every record is read as it is written.
    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Relaxed) > 0
    }

    /// Whether it could not be read the last time, over this connection.
    pub(crate) fn is_unreadable(&self, connection: Option<u64>) -> bool {
        self.unreadable.lock().is_some_and(|over| connection == Some(over))
    }

    /// It could not be read over this connection.
    pub(crate) fn note_unreadable(&self, connection: Option<u64>) {
        *self.unreadable.lock() = connection;
    }

    /// It was read.
    pub(crate) fn note_readable(&self) {
        *self.unreadable.lock() = None;
    }

    /// Whether nobody has looked for the stream itself over this connection; somebody has, from now on.
    pub(crate) fn looks_for_stream(&self, connection: Option<u64>) -> bool {
        std::mem::replace(&mut *self.looked_for.lock(), connection) != connection
    }

    /// Remembers that this handle deletes the queue at this address.
    pub(crate) fn delete_here(&self, address: Arc<str>) {
        self.deleted_here.lock().insert(address);
    }

    /// Whether this handle deleted the queue at this address: what was in hand then has gone with it.
    pub(crate) fn was_deleted_here(&self, address: &str) -> bool {
        self.deleted_here.lock().contains(address)
    }

    /// A queue is there that is not listed.
    pub(crate) fn note_unlisted(&self, queue: &QueueName) {
        self.unlisted.lock().insert(queue.clone());
    }

    /// It is listed now, or gone.
    pub(crate) fn forget_unlisted(&self, queue: &QueueName) {
        self.unlisted.lock().remove(queue);
    }

    /// How many queues are used here and not listed.
    pub(crate) fn unlisted(&self) -> usize {
        let known = self.known.lock();
        let mut unlisted = self.unlisted.lock();
        unlisted.retain(|queue| known.queues.get(queue).is_none());
        unlisted.len()
    }

    /// How often the broker lost everything, as far as it was seen.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Relaxed)
    }

    /// A queue that went with everything else, and is not there again.
    pub(crate) fn lost(&self, queue: &QueueName) -> Option<CatalogueEntry> {
        self.lost.lock().get(queue).cloned()
    }

    /// Those of them that are bound to a topic.
    pub(crate) fn lost_bound(&self) -> Vec<QueueName> {
        let lost = self.lost.lock();
        let bound = lost.values().filter(|entry| !entry.spec.bindings.is_empty());
        bound.map(|entry| entry.name().clone()).collect()
    }

    /// It is there again, or is not to be.
    pub(crate) fn forget_lost(&self, queue: &QueueName) {
        self.lost.lock().remove(queue);
    }

    /// A request that appends a record; it says where to begin to read, as far as it is known.
    pub(crate) fn request(&self, record: &Record) -> PublishRequest {
        let from = match record {
            Record::Snapshot { upto, .. } => Some(*upto),
            _ => self.known.lock().from,
        };
        let body = serde_json::to_vec(record).unwrap_or_default().into();
        let mut headers = FieldTable::default();
        if let Some(from) = from {
            headers.insert(FROM.into(), AMQPValue::LongLongInt(from));
        }
        let properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
        PublishRequest { exchange: String::new(), key: self.stream.clone(), properties, body }
    }

    /// The request that writes the next snapshot, where one is due.
    pub(crate) fn due_snapshot(&self) -> Option<PublishRequest> {
        let snapshot = self.known.lock().due_snapshot()?;
        Some(self.request(&snapshot)).filter(|request| request.body.len() <= MAX_SNAPSHOT)
    }

    /// What the stream is declared with.
    pub(crate) fn arguments() -> FieldTable {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(MAX_BYTES));
        // The segment that is written to does not go.
        arguments.insert("x-stream-max-segment-size-bytes".into(), AMQPValue::LongLongInt(SEGMENT_BYTES));
        arguments
    }

    /// Somebody waits for a mark of his.
    pub(crate) fn await_mark(&self, by: &str) -> oneshot::Receiver<()> {
        let (came, coming) = oneshot::channel();
        self.marks.lock().insert(by.to_owned(), came);
        coming
    }

    /// Nobody waits for it any more.
    pub(crate) fn forget_mark(&self, by: &str) {
        self.marks.lock().remove(by);
    }

    /// All that was confirmed before that reading began is known.
    pub(crate) fn was_read(&self, begun: Instant) {
        let mut known = self.known.lock();
        known.read_at = known.read_at.max(Some(begun));
    }

    /// What was read anew takes the place of all that was known.
    pub(crate) fn replace(&self, read: KnownQueues) {
        let mut known = self.known.lock();
        self.live.store(0, Relaxed);
        let former = std::mem::replace(&mut *known, read);
        let lost = known.lost_since(former);
        drop(known);
        if lost.is_empty() {
            return;
        }
        self.lost.lock().extend(lost.into_iter().map(|entry| (entry.name().clone(), entry)));
        self.losses.fetch_add(1, Relaxed);
        let detail = format!("the catalogue, the stream {:?}, is gone or empty", self.stream);
        self.events.send(Event::Wiped { detail });
    }

    /// Begins to read every record as it is written.
    pub(crate) fn begin_live(self: &Arc<Self>) -> Following {
        let number = self.followers.fetch_add(1, Relaxed) + 1;
        self.live.store(number, Relaxed);
        Following { catalogue: self.clone(), number }
    }
}

/// Who reads every record as it is written, until it is dropped.
pub(crate) struct Following {
    pub(crate) catalogue: Arc<Catalogue>,
    number: u64,
}

impl Following {
    /// Reads a record, unless somebody has begun anew meanwhile.
    pub(crate) fn take(&self, delivery: &Delivery) {
        let mut known = self.catalogue.known.lock();
        if self.catalogue.live.load(Relaxed) != self.number {
            return;
        }
        let mark = offset(delivery).and_then(|offset| known.take(offset, &delivery.data));
        drop(known);
        if let Some(came) = mark.and_then(|mark| self.catalogue.marks.lock().remove(&mark)) {
            let _ = came.send(());
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        if self.catalogue.live.compare_exchange(self.number, 0, Relaxed, Relaxed).is_ok() {
            self.catalogue.marks.lock().clear();
        }
    }
}

/// Where a record stands.
pub(crate) fn offset(delivery: &Delivery) -> Option<i64> {
    number(delivery, OFFSET)
}

/// Where its writer would begin to read.
pub(crate) fn begins_at(delivery: &Delivery) -> Option<i64> {
    number(delivery, FROM)
}

fn number(delivery: &Delivery, header: &str) -> Option<i64> {
    match delivery.properties.headers().as_ref()?.inner().get(header) {
        Some(AMQPValue::LongLongInt(number)) => Some(*number),
        _ => None,
    }
}
