//! What identifies a consumer, a hand-out and a call that waits; what a receipt says.

use std::sync::Arc;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use polyqueue::Message;

use crate::broker::clock::At;

/// Identifies a consumer in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConsumerId(pub(crate) u64);

/// Identifies one hand-out of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token(pub(crate) u64);

/// A receipt, read.
///
/// It carries the end of its first lease, so that nobody needs to remember every settled message until then: a token that
/// is missing while that end is still ahead was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReceiptParts {
    pub(crate) consumer: ConsumerId,
    pub(crate) token: Token,
    pub(crate) until: At,
}

/// Identifies a call that waits; older ones are smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WaiterId(u64);

impl WaiterId {
    /// One sequence for the process: a publish may wait at several queues.
    pub(crate) fn next() -> Self {
        static WAITERS: AtomicU64 = AtomicU64::new(0);
        Self(WAITERS.fetch_add(1, Relaxed))
    }
}

/// A message on its way into somebody's hands.
#[derive(Debug)]
pub(crate) struct HandedOut {
    pub(crate) message: Arc<Message>,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) receipt_parts: ReceiptParts,
}
