//! What is done with a message that leaves a consumer's hands.

use std::sync::Arc;

use polyqueue::backend::LeaseTable;
use polyqueue::{Result, Settled, Verdict};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::settle::fetched::Fetched;
use crate::settle::receipt::Key;
use crate::wire::dead::Death;
use crate::wire::properties::Raw;

/// What a consumer has handed out.
pub(crate) type Leases = LeaseTable<Key, Arc<Fetched>>;

/// A verdict, its message, and who waits for the answer.
#[derive(Debug)]
pub(crate) struct SettleJob {
    pub(crate) key: Key,
    pub(crate) item: Arc<Fetched>,
    /// When the message was handed out.
    pub(crate) since: Instant,
    pub(crate) verdict: Verdict,
    pub(crate) reply: oneshot::Sender<Result<Settled>>,
}

/// Why a delivery is acked, hence what is published in its place before.
#[derive(Debug)]
pub(crate) enum Settlement {
    /// A verdict; and whether the message's time to live had ended when it was given.
    Verdict(SettleJob, bool),
    LeaseEnd(Arc<Fetched>),
    /// It came back to the queue: the next copy says for which attempt it is.
    Recovery(Arc<Fetched>),
    /// A crash of the broker has marked it: the next copy says that it is of this boot, and comes next.
    Renewal(Arc<Fetched>),
    /// It was not handed out: it goes back, its attempt unburned.
    Release(Arc<Fetched>),
    DeadLetter(Arc<Fetched>, Death),
    Undecodable(Box<Raw>, Death),
}

impl Settlement {
    /// Whether it is for what came back to the queue.
    pub(crate) fn is_recovery(&self) -> bool {
        matches!(self, Self::Recovery(_) | Self::Renewal(_))
    }
}

impl SettleJob {
    /// What is answered when it is carried out; `over`: the message's time to live had ended.
    pub(crate) fn answer(&self, over: bool) -> Settled {
        match &self.verdict {
            _ if self.item.replacement.is_earlier() => Settled::AlreadySettled,
            Verdict::DeadLetter { .. } => Settled::Died,
            Verdict::Retry { .. } if over || self.item.attempt >= self.item.max_attempts => Settled::Died,
            _ => Settled::Applied,
        }
    }
}
