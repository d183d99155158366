//! The messaging half of the contract: all that an application needs.
//!
//! No method here has a default body, so that no wrapper can forget one. Conveniences stand above, in
//! [`QueueExt`](crate::QueueExt) and [`Worker`](crate::Worker), where no backend can get them wrong.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::{
    Admin, Destination, Inbox, Info, Message, MessageId, QueueName, QueueSpec, Result, Subscription,
};

/// A handle to a broker.
///
/// Every call ends by its deadline ([`ConnectOptions::deadline`](crate::ConnectOptions), 10 s unless set; `receive`: its
/// wait + that), whatever the broker does. An open handle survives restarts of its broker: it reconnects by itself.
#[async_trait]
pub trait Queue: Admin + fmt::Debug + Send + Sync + 'static {
    /// What this backend is and can.
    fn info(&self) -> Info;

    /// Makes a queue, and binds it; does nothing where it exists as described. Takes effect before it returns: a message that
    /// is published to a matching topic afterwards reaches it.
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) names what differs from the queue that is there, or is outside its limits: bindings
    /// may be added, nothing else may change. [`Unsupported`](crate::Error::Unsupported) for an option that this broker cannot honour.
    async fn declare(&self, spec: &QueueSpec) -> Result<()>;

    /// Stores messages, durably for every `Ok`, answering in input order; messages of equal priority keep that order.
    ///
    /// A backend never repeats a publish by itself: an error whose [certainty](crate::Error::certainty) is `Unknown` is the
    /// caller's to decide about. Dropping the call is such an error. An empty batch is Ok and sends nothing.
    ///
    /// # Errors
    /// The outer `Err` means that nothing was stored: [`Invalid`](crate::Error::Invalid) names the field and the position,
    /// [`NotFound`](crate::Error::NotFound) the queue, the topic to which none is bound, or the inbox that is gone. Inner ones are
    /// of one message each: [`Full`](crate::Error::Full) for one that a queue has no room for, and of a message to several
    /// queues an error is definite only when it reached none.
    async fn publish(&self, to: &Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>>;

    /// Begins to read a queue.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound) for an unknown queue, [`Invalid`](crate::Error::Invalid) for a lease outside
    /// its limits.
    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>>;

    /// Opens an inbox for replies. It ends with the handle, or when it is dropped.
    async fn inbox(&self) -> Result<Box<dyn Inbox>>;

    /// Ends this handle. Idempotent. Afterwards every call on it, its consumers and its inboxes answers
    /// [`Closed`](crate::Error::Closed) at once, except `info`, `health` and `close`; blocked receives end, publishes that are
    /// under way end truthfully. What its consumers hold comes back at the end of its lease at the latest.
    async fn close(&self) -> Result<()>;
}

/// Reads one queue. Takes `&self`: one task fetches while many settle.
#[async_trait]
pub trait Consumer: fmt::Debug + Send + Sync {
    /// Up to `max` messages, highest priority first; returns as soon as it has one, empty after `wait`. `wait = 0`: what is
    /// ready now. `max = 0`: empty, at once.
    ///
    /// Several calls may be pending: the oldest is served first. Await it to its end: a dropped call may hold messages
    /// until their lease ends. One unreadable message becomes a dead letter, it does not fail the call.
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>>;

    /// Applies verdicts, answering each in input order. A second verdict for a receipt has no effect. After an error whose
    /// certainty is `Unknown` a verdict may be repeated.
    async fn settle(&self, verdicts: &[(Receipt, Verdict)]) -> Result<Vec<Result<Settled>>>;

    /// A new full lease, from now, for each.
    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Result<Extended>>>;

    /// Ends pending receives with what they have and releases the local buffer, attempts unburned; later receives are
    /// empty. Verdicts and extensions of what was handed out still work until the consumer is dropped.
    /// Dropped without it: what it holds comes back at the end of the lease at the latest.
    async fn close(&self) -> Result<()>;
}

/// The answer to one publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The message's id.
    pub id: MessageId,
    /// The message that has its dedup key, when nothing was stored because every queue that it reached had the key.
    pub duplicate_of: Option<MessageId>,
}

impl Published {
    /// It was stored.
    pub fn stored(id: MessageId) -> Self {
        Self { id, duplicate_of: None }
    }

    /// Nothing was stored: `first` has its dedup key.
    pub fn duplicate(id: MessageId, first: MessageId) -> Self {
        Self { id, duplicate_of: Some(first) }
    }
}

/// A message in our hands, until its lease ends.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The queue that it came from.
    pub queue: QueueName,
    /// The message, as it was published.
    pub message: Message,
    /// 1 + the earlier hand-outs that no `Release` undid.
    pub attempt: u32,
    /// What verdicts and extensions are given by.
    pub receipt: Receipt,
    /// The end of the lease: when the call that brought it was sent (RabbitMQ: the hand-out) + lease.
    pub lease_until: Instant,
}

/// Names one hand-out of one message. Opaque; valid only at the consumer that received it, elsewhere the answer is
/// `LeaseLost`. One that no backend made is [`Invalid`](crate::Error::Invalid).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt(Arc<str>);

impl Receipt {
    /// For backends.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The receipt as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What becomes of a message in our hands. Exhaustive: a new verdict must break backends.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Done: it is never handed out again.
    Ack,
    /// Failed: hand it out again after `after`, one attempt more; at the last attempt it becomes a dead letter instead.
    Retry {
        /// The wait, from now.
        after: Duration,
        /// Kept as the message's last error; at most 4 KiB, longer ones are cut.
        error: String,
    },
    /// Not done, not failed: hand it out again after `after`, no attempt counted.
    Release {
        /// The wait, from now.
        after: Duration,
    },
    /// Never again: a dead letter.
    DeadLetter {
        /// Why.
        reason: Refusal,
        /// Kept in the dead letter; at most 4 KiB, longer ones are cut.
        error: String,
    },
}

impl Verdict {
    /// A [`Verdict::Retry`].
    pub fn retry(after: Duration, error: impl Into<String>) -> Self {
        Self::Retry { after, error: error.into() }
    }

    /// A [`Verdict::DeadLetter`] for a message that its reader refuses.
    pub fn reject(error: impl Into<String>) -> Self {
        Self::DeadLetter { reason: Refusal::Rejected, error: error.into() }
    }
}

/// Why a reader refuses a message for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It does not want it.
    Rejected,
    /// It cannot read it.
    Undecodable,
}

impl From<Refusal> for crate::DeadReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Rejected => Self::Rejected,
            Refusal::Undecodable => Self::Undecodable,
        }
    }
}

/// The answer to one verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It took effect.
    Applied,
    /// It took effect, and the message is a dead letter now, by `DeadLetter` or by the last `Retry`.
    Died,
    /// An earlier verdict took effect; this one had none.
    AlreadySettled,
    /// The lease has ended; this verdict had no effect.
    LeaseLost,
}

/// The answer to one extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    /// Ours until then.
    Until(Instant),
    /// The lease has ended, or a verdict was given: not ours any more.
    LeaseLost,
}
