//! A verdict on its way to the broker.

use std::sync::Arc;

use polyqueue::backend::LeaseTable;
use polyqueue::{Result, Settled, Verdict};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::settle::fetched::Fetched;
use crate::settle::receipt::Key;

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

impl SettleJob {
    /// What is answered when it is carried out; `over`: the message's time to live has ended meanwhile.
    pub(crate) fn answer(&self, over: bool) -> Settled {
        match &self.verdict {
            Verdict::DeadLetter { .. } => Settled::Died,
            Verdict::Retry { .. } if over || self.item.attempt >= self.item.max_attempts => Settled::Died,
            _ => Settled::Applied,
        }
    }
}
