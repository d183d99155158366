//! What identifies a consumer, a hand-out and a call that waits; what a receipt says.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
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

/// Values by an id of ours.
pub(crate) type ById<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;
/// Ids of ours.
pub(crate) type Ids<K> = HashSet<K, BuildHasherDefault<IdHasher>>;

/// Hashes ids: numbers in sequence that nobody else can choose, so that no secret is needed to spread them.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(self.0 ^ u64::from(byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // The golden ratio, as a fraction of 2^64.
        self.0 = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
