//! Dedup keys: which message has which, until when.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use polyqueue::{Dedup, MessageId};

use crate::broker::budget::Reservation;
use crate::broker::clock::At;

/// The dedup keys of a queue.
#[derive(Debug)]
pub(super) struct DedupKeys {
    pub(super) dedup: Dedup,
    pub(super) taken: HashMap<Arc<str>, Claim>,
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
        Self { dedup, taken: HashMap::new(), order: BTreeMap::new() }
    }

    /// Frees the keys whose window has ended.
    pub(super) fn forget(&mut self, now: At) {
        while let Some(first) = self.order.first_entry()
            && first.get().0 <= now
        {
            let (_, key) = first.remove();
            self.taken.remove(&key);
        }
    }

    pub(super) fn free(&mut self, key: &str, id: &MessageId) {
        if self.taken.get(key).is_some_and(|claim| claim.id == *id)
            && let Some(claim) = self.taken.remove(key)
        {
            self.order.remove(&claim.number);
        }
    }

    pub(super) fn clear(&mut self) {
        self.taken.clear();
        self.order.clear();
    }
}
