//! What happens to a handle without anybody asking.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::lifecycle::Lifecycle;
use crate::{DeadReason, MessageId, QueueName, Receipt};

/// What happened to a handle without anybody asking. Texts hold no secrets.
///
/// Each is logged by `tracing`, too, with its [`name`](Self::name) and the target `polyqueue::event`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A connection was lost. Another is being made.
    ConnectionLost {
        /// Which, and why.
        detail: String,
    },
    /// In place of a connection that was lost there is another.
    ConnectionRestored {
        /// Which.
        detail: String,
    },
    /// The broker takes no messages at the moment: until [`Event::Unblocked`], publishes end with a definite error.
    Blocked {
        /// Why, as the broker says.
        detail: String,
    },
    /// The broker takes messages again.
    Unblocked,
    /// What a queue needs was not on the broker any more, and was made again.
    Redeclared {
        /// The queue.
        queue: QueueName,
    },
    /// Everything of this namespace was gone from the broker, its messages too.
    Wiped {
        /// How it was seen.
        detail: String,
    },
    /// Something in a queue could not be read and is among its dead letters now.
    SetAside {
        /// The queue.
        queue: QueueName,
        /// Why it could not be read.
        detail: String,
    },
    /// A verdict or an extension came when the lease was another's: the message is, or was, handed out again.
    LeaseLost {
        /// The queue.
        queue: QueueName,
        /// Of the delivery; not in the JSON, for nobody else can use it.
        #[serde(skip)]
        receipt: Receipt,
    },
    /// The broker ends a consumer for a message that is held for less than its lease, and hands out again all that this consumer
    /// has: shorten the lease, or allow more at the broker. Told when it is first known, and by each later consumer at once.
    LeaseLimited {
        /// The queue.
        queue: QueueName,
        /// The lease, in JSON in milliseconds.
        #[serde(with = "crate::millis")]
        lease: Duration,
        /// For how long the broker lets a message be held, in JSON in milliseconds.
        #[serde(with = "crate::millis")]
        limit: Duration,
    },
    /// Nobody knows whether a verdict took effect. The message may come again.
    VerdictUnknown {
        /// The queue.
        queue: QueueName,
        /// Of the delivery; not in the JSON, for nobody else can use it.
        #[serde(skip)]
        receipt: Receipt,
    },
    /// A message died that no handler decided about: its lease ended in its last attempt, it expired, or its queue was full.
    DeadLetter {
        /// The queue.
        queue: QueueName,
        /// The message.
        id: MessageId,
        /// Why it died.
        reason: DeadReason,
    },
    /// So many happened that nobody read in time.
    Missed {
        /// How many.
        count: u64,
    },
}

impl Event {
    /// What kind of event it is: the same word as in its JSON, for example `connection_lost`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ConnectionLost { .. } => "connection_lost",
            Self::ConnectionRestored { .. } => "connection_restored",
            Self::Blocked { .. } => "blocked",
            Self::Unblocked => "unblocked",
            Self::Redeclared { .. } => "redeclared",
            Self::Wiped { .. } => "wiped",
            Self::SetAside { .. } => "set_aside",
            Self::LeaseLost { .. } => "lease_lost",
            Self::LeaseLimited { .. } => "lease_limited",
            Self::VerdictUnknown { .. } => "verdict_unknown",
            Self::DeadLetter { .. } => "dead_letter",
            Self::Missed { .. } => "missed",
        }
    }

    /// What the log says of it.
    pub(crate) const fn in_words(&self) -> &'static str {
        match self {
            Self::ConnectionLost { .. } => "a connection was lost, and is made again",
            Self::ConnectionRestored { .. } => "a connection was restored",
            Self::Blocked { .. } => "the broker takes no messages for now: publishes wait",
            Self::Unblocked => "the broker takes messages again",
            Self::Redeclared { .. } => "what the broker had lost was declared again",
            Self::Wiped { .. } => "the broker has lost what it held",
            Self::SetAside { .. } => "what cannot be read was set aside",
            Self::LeaseLost { .. } => "a lease was lost: the message is handed out again",
            Self::LeaseLimited { .. } => "the broker lets no message be held for as long as the lease lasts",
            Self::VerdictUnknown { .. } => "nobody knows whether a verdict took effect",
            Self::DeadLetter { .. } => "a message became a dead letter by itself",
            Self::Missed { .. } => "events were missed: they were not read in time",
        }
    }
}

/// The events of one handle from the moment that [`Queue::events`](crate::Queue::events) was called: of its connections, and of
/// the queues in its namespace.
///
/// It holds the last [`Events::CAPACITY`]; who reads more slowly is told how many he [missed](Event::Missed).
pub struct Events {
    pub(crate) receiver: Receiver<Scoped>,
    pub(crate) namespace: Arc<str>,
    pub(crate) lifecycle: Lifecycle,
}

/// An event, and the namespace that it happened in where it was in one.
#[derive(Clone, Debug)]
pub(crate) struct Scoped {
    pub(crate) namespace: Option<Arc<str>>,
    pub(crate) event: Event,
}

impl Events {
    /// How many are kept for who does not read.
    pub const CAPACITY: usize = 256;

    /// The next one; `None` when the handle was closed. Dropping the call loses none.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let received = tokio::select! {
                biased;
                received = self.receiver.recv() => received,
                () = self.lifecycle.closing() => return None,
            };
            match received {
                Ok(Scoped { namespace: Some(other), .. }) if other != self.namespace => {}
                Ok(Scoped { event, .. }) => return Some(event),
                Err(RecvError::Lagged(count)) => return Some(Event::Missed { count }),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}
