//! What is handed out, and what is answered for it: deliveries, their receipts, verdicts and the answers to them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::{DeadReason, Message, QueueName};

/// A message in our hands, until its lease ends.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Delivery {
    /// The queue that it came from.
    pub queue: QueueName,
    /// The message, as it was published. Shared, so that a backend which keeps it hands it out without a copy.
    pub message: Arc<Message>,
    /// 1 + the earlier hand-outs that no `Release` undid.
    pub attempt: u32,
    /// After how many attempts it dies: the message's own maximum, or else the greatest of those under which it was tried, this
    /// subscription's included.
    pub max_attempts: u32,
    /// What verdicts and extensions are given by.
    pub receipt: Receipt,
    /// The end of the lease: when the call that brought it was sent (RabbitMQ: the hand-out) + lease.
    pub lease_until: Instant,
}

impl Delivery {
    /// For backends.
    pub fn new(
        queue: QueueName,
        message: impl Into<Arc<Message>>,
        attempt: u32,
        max_attempts: u32,
        receipt: Receipt,
        lease_until: Instant,
    ) -> Self {
        Self { queue, message: message.into(), attempt, max_attempts, receipt, lease_until }
    }
}

/// Names one hand-out of one message. Opaque; valid only at the consumer that received it, elsewhere the answer is
/// `LeaseLost`. One that no backend made is [`Invalid`](crate::Error::Invalid).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt(Form);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Form {
    Text(Arc<str>),
    Words([u64; 3]),
}

impl Receipt {
    /// For backends: a receipt that is a text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(Form::Text(text.into()))
    }

    /// For backends: a receipt that is three numbers, for which nothing is allocated.
    pub const fn from_words(words: [u64; 3]) -> Self {
        Self(Form::Words(words))
    }

    /// The text of one that was made by [`new`](Self::new).
    pub fn text(&self) -> Option<&str> {
        match &self.0 {
            Form::Text(text) => Some(text),
            Form::Words(_) => None,
        }
    }

    /// The numbers of one that was made by [`from_words`](Self::from_words).
    pub fn words(&self) -> Option<[u64; 3]> {
        match self.0 {
            Form::Words(words) => Some(words),
            Form::Text(_) => None,
        }
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
    /// It has had as many attempts as this reader allows for a message like it, fewer than its subscription does.
    MaxAttempts,
}

impl From<Refusal> for DeadReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Rejected => Self::Rejected,
            Refusal::Undecodable => Self::Undecodable,
            Refusal::MaxAttempts => Self::MaxAttempts,
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
