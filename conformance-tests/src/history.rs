//! What happened in a case: every call with its begin, its end and its answer, on one clock and one count.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use chrono::Utc;
use parking_lot::Mutex;
use polyqueue::{
    Certainty, DeadId, DeadLetter, Delivery, Destination, Extended, Message, MessageId, Pattern, Published,
    Purge, QueueName, QueueSpec, Receipt, ReplyAddress, Reschedule, Settled, Verdict,
};
use tokio::time::Instant;

/// A moment: its time, and its place in the one order of all moments of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The test's monotonic clock.
    pub at: Instant,
    /// Where a smaller number stands, it was earlier.
    pub seq: u64,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Event {
    /// Which handle made it.
    pub client: u64,
    /// When it began.
    pub inv: Stamp,
    /// When it answered; `None` when it was dropped before.
    pub ret: Option<Stamp>,
    /// What was asked and answered.
    pub call: Call,
}

/// The answer to a call; `None` when it was dropped. Of an error only its certainty matters.
pub type Answer<T> = Option<Result<T, Certainty>>;

/// What was asked and what was answered.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the arguments and answers of the verbs of the contract")]
pub enum Call {
    Declare {
        spec: QueueSpec,
        answer: Answer<()>,
    },
    Unbind {
        queue: QueueName,
        pattern: Pattern,
        answer: Answer<()>,
    },
    Publish {
        to: Destination,
        sent: Vec<Sent>,
        answer: Answer<Vec<Result<Published, Certainty>>>,
    },
    /// Replies came in. Written down only when some have: an inbox is read for as long as it lives.
    Replies {
        inbox: ReplyAddress,
        came: Vec<MessageId>,
    },
    Subscribe {
        queue: QueueName,
        reader: Reader,
        answer: Answer<()>,
    },
    Receive {
        queue: QueueName,
        consumer: u64,
        max: usize,
        wait: Duration,
        answer: Answer<Vec<Handout>>,
    },
    Settle {
        queue: QueueName,
        consumer: u64,
        verdicts: Vec<(Receipt, Verdict)>,
        answer: Answer<Vec<Result<Settled, Certainty>>>,
    },
    Extend {
        queue: QueueName,
        consumer: u64,
        receipts: Vec<Receipt>,
        answer: Answer<Vec<Result<Extended, Certainty>>>,
    },
    /// The consumer was closed or dropped.
    EndConsumer {
        queue: QueueName,
        consumer: u64,
    },
    /// The handle was closed.
    EndClient,
    Delete {
        queue: QueueName,
        answer: Answer<()>,
    },
    Purge {
        queue: QueueName,
        what: Purge,
        answer: Answer<u64>,
    },
    DeadLetters {
        queue: QueueName,
        answer: Answer<Vec<Dead>>,
    },
    Reschedule {
        queue: QueueName,
        id: MessageId,
        to: Reschedule,
        answer: Answer<bool>,
    },
    Redrive {
        queue: QueueName,
        ids: Vec<DeadId>,
        answer: Answer<Vec<bool>>,
    },
    Discard {
        queue: QueueName,
        ids: Vec<DeadId>,
        answer: Answer<Vec<bool>>,
    },
    /// A call that changes nothing: stats, health, the list of queues.
    Look,
    /// The case says: every message of this queue whose publish was Ok has come to its end by now.
    Drained {
        queue: QueueName,
    },
}

/// How a consumer reads.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "see polyqueue::Subscription")]
pub struct Reader {
    pub consumer: u64,
    pub lease: Duration,
    pub max_attempts: NonZeroU32,
    pub prefetch: usize,
}

/// A message as it was published.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "see polyqueue::Message")]
pub struct Sent {
    pub id: MessageId,
    pub delay: Duration,
    pub envelope: Arc<Envelope>,
    /// It has no retries and no last error from an earlier life.
    pub fresh: bool,
}

/// What must be the same at every hand-out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "see polyqueue::Message")]
pub struct Envelope {
    pub kind: String,
    pub schema_version: Option<String>,
    pub payload_bytes: usize,
    pub payload_hash: u64,
    pub priority: u8,
    pub published_ms: Option<i64>,
    pub max_attempts: Option<NonZeroU32>,
    pub ttl_ms: Option<u64>,
    pub dedup_key: Option<String>,
    pub correlation_id: Option<String>,
    pub reply_to: Option<ReplyAddress>,
    pub headers: BTreeMap<String, String>,
}

/// A message as it was handed out.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "see polyqueue::Delivery")]
pub struct Handout {
    pub id: MessageId,
    pub envelope: Arc<Envelope>,
    pub attempt: u32,
    pub retries: u32,
    pub last_error: Option<String>,
    pub receipt: Receipt,
    pub lease_until: Instant,
}

/// A dead letter as it was listed.
#[derive(Clone, Debug)]
pub struct Dead {
    /// The message's id; `None` when it was none.
    pub message: Option<MessageId>,
    /// The message's envelope.
    pub envelope: Option<Arc<Envelope>>,
    /// The record.
    pub record: DeadLetter,
}

impl Envelope {
    /// What of this message must not change.
    pub fn of(message: &Message) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(message.payload());
        Self {
            kind: message.kind().into(),
            schema_version: message.schema_version().map(Into::into),
            payload_bytes: message.payload().len(),
            payload_hash: hasher.finish(),
            priority: message.priority().get(),
            published_ms: message.published_at().map(|at| at.timestamp_millis()),
            max_attempts: message.max_attempts(),
            // Brokers count whole milliseconds; none may be taken away.
            ttl_ms: message.ttl().map(|ttl| ttl.as_nanos().div_ceil(1_000_000) as u64),
            dedup_key: message.dedup_key().map(Into::into),
            correlation_id: message.correlation_id().map(Into::into),
            reply_to: message.reply_to().cloned(),
            headers: message.headers().clone(),
        }
    }

    /// How long it lives.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl_ms.map(Duration::from_millis)
    }

    /// Whether this is what `sent` became on its way: the same, where the sender's clock may have been filled in.
    pub fn came_from(&self, sent: &Self) -> bool {
        let published_ms = sent.published_ms.or(self.published_ms);
        *self == Self { published_ms, ..sent.clone() }
    }
}

impl From<&Message> for Sent {
    fn from(message: &Message) -> Self {
        Self {
            id: message.id().clone(),
            delay: message.delay_from(Utc::now()),
            envelope: Arc::new(Envelope::of(message)),
            fresh: message.retries() == 0 && message.last_error().is_none(),
        }
    }
}

impl From<&Delivery> for Handout {
    fn from(delivery: &Delivery) -> Self {
        Self {
            id: delivery.message.id().clone(),
            envelope: Arc::new(Envelope::of(&delivery.message)),
            attempt: delivery.attempt,
            retries: delivery.message.retries(),
            last_error: delivery.message.last_error().map(Into::into),
            receipt: delivery.receipt.clone(),
            lease_until: delivery.lease_until,
        }
    }
}

impl From<&DeadLetter> for Dead {
    fn from(dead_letter: &DeadLetter) -> Self {
        Self {
            message: dead_letter.message().map(|message| message.id().clone()),
            envelope: dead_letter.message().map(|message| Arc::new(Envelope::of(message))),
            record: dead_letter.clone(),
        }
    }
}

/// What happened in one case.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The calls, in the order in which they began.
    pub events: Vec<Event>,
    /// From this moment on calls may have had effects that the history does not show: a fault, a dropped publish or
    /// verdict, an unknown answer.
    pub fault: Option<u64>,
    /// Somebody else published too, outside the history.
    pub outsiders: bool,
}

/// Writes a [`History`].
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    seq: AtomicU64,
    ids: AtomicU64,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    history: History,
    /// The begins of the calls that have not answered yet.
    pending: BTreeSet<u64>,
}

impl Recorder {
    /// A number for a handle or a consumer.
    pub(crate) fn fresh_id(&self) -> u64 {
        self.ids.fetch_add(1, SeqCst)
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { at: Instant::now(), seq: self.seq.fetch_add(1, SeqCst) }
    }

    /// A call begins; it is written down when the value is finished or dropped.
    pub(crate) fn begin(self: &Arc<Self>, client: u64, call: Call) -> Pending {
        let inv = self.stamp();
        self.written.lock().pending.insert(inv.seq);
        Pending { recorder: self.clone(), event: Some(Event { client, inv, ret: None, call }) }
    }

    /// Something happened in no time.
    pub(crate) fn note(self: &Arc<Self>, client: u64, call: Call) {
        self.begin(client, call).finish(|_| ());
    }

    pub(crate) fn note_fault(&self) {
        let now = self.stamp().seq;
        let mut written = self.written.lock();
        written.history.fault = Some(written.history.fault.unwrap_or(now));
    }

    pub(crate) fn note_outsider(&self) {
        self.written.lock().history.outsiders = true;
    }

    /// What was written so far. A call that still waits counts as one that may have any effect.
    pub(crate) fn history(&self) -> History {
        let written = self.written.lock();
        let mut history = written.history.clone();
        let waiting = written.pending.first().copied();
        history.fault = history.fault.into_iter().chain(waiting).min();
        history.events.sort_by_key(|event| event.inv.seq);
        history
    }
}

/// A call that has begun.
#[derive(Debug)]
pub(crate) struct Pending {
    recorder: Arc<Recorder>,
    event: Option<Event>,
}

impl Pending {
    /// The call has answered; `fill` writes the answer down.
    pub(crate) fn finish(mut self, fill: impl FnOnce(&mut Call)) {
        let ret = self.recorder.stamp();
        if let Some(event) = &mut self.event {
            event.ret = Some(ret);
            fill(&mut event.call);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(event) = self.event.take() {
            let mut written = self.recorder.written.lock();
            written.pending.remove(&event.inv.seq);
            written.history.events.push(event);
        }
    }
}
