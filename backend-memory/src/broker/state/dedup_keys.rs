//! Dedup keys: which message has which, until when.

use std::collections::BTreeMap;
use std::sync::Arc;

use polyqueue::{Dedup, MessageId};

use crate::broker::budget::Reservation;
use crate::broker::clock::At;

/// The dedup keys of a queue.
#[derive(Debug)]
pub(super) struct DedupKeys {
    pub(super) dedup: Dedup,
    pub(super) taken: BTreeMap<Arc<str>, Claim>,
    /// The same by the order in which they were taken, which is the order in which their windows end.
    pub(super) order: BTreeMap<u64, (At, Arc<str>)>,
}

/// Whose a key is.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) id: MessageId,
    pub(super) number: u64,
    /// A key may outlive its message.
    pub(super) _room: Reservation,
}

impl DedupKeys {
    pub(super) fn new(dedup: Dedup) -> Self {
        Self { dedup, taken: BTreeMap::new(), order: BTreeMap::new() }
    }

    /// Frees the oldest key if its window has ended; whether it had.
    pub(super) fn forget_first(&mut self, now: At) -> bool {
        let Some(first) = self.order.first_entry().filter(|first| first.get().0 <= now) else { return false };
        let (_, key) = first.remove();
        self.taken.remove(&key);
        true
    }

    pub(super) fn free(&mut self, key: &str, id: &MessageId) {
        if self.taken.get(key).is_some_and(|claim| claim.id == *id)
            && let Some(claim) = self.taken.remove(key)
        {
            self.order.remove(&claim.number);
        }
    }
}
