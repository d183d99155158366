//! Dedup keys: which message has which, until when.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use polyqueue::{Dedup, Message, MessageId, Until};

use super::Line;
use super::item::Item;
use crate::budget::Room;
use crate::clock::At;
use crate::mutants::{Bug, planted};

/// The dedup keys of a queue.
#[derive(Debug)]
pub(super) struct Keys {
    dedup: Dedup,
    taken: HashMap<Arc<str>, Claim>,
    /// The same by the order in which they were taken, which is the order in which their windows end.
    order: BTreeMap<u64, (At, Arc<str>)>,
}

/// Whose a key is.
#[derive(Debug)]
struct Claim {
    id: MessageId,
    number: u64,
    /// A key may outlive its message.
    _room: Room,
}

impl Keys {
    pub(super) fn new(dedup: Dedup) -> Self {
        Self { dedup, taken: HashMap::new(), order: BTreeMap::new() }
    }

    /// Frees the keys whose window has ended.
    fn forget(&mut self, now: At) {
        while let Some(first) = self.order.first_entry()
            && first.get().0 <= now
        {
            let (_, key) = first.remove();
            self.taken.remove(&key);
        }
    }

    fn free(&mut self, key: &str, id: &MessageId) {
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

impl Line {
    /// Whether this queue is declared to keep dedup keys.
    pub(crate) fn keeps_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// A duplicate came: only a bug makes that mean anything.
    #[cfg(polyqueue_mutants)]
    pub(super) fn begin_window_anew(&mut self, message: &Message) {
        let now = self.now;
        let (Some(keys), Some(key)) = (&mut self.keys, message.dedup_key()) else { return };
        if planted(Bug::WindowFromDuplicate)
            && let Some(claim) = keys.taken.get(key)
            && let Some(entry) = keys.order.get_mut(&claim.number)
        {
            entry.0 = now.plus(keys.dedup.window);
        }
    }

    /// The message that has this one's key.
    pub(super) fn holder_of(&self, message: &Message) -> Option<&MessageId> {
        Some(&self.keys.as_ref()?.taken.get(message.dedup_key()?)?.id)
    }

    pub(super) fn take_key(&mut self, item: &Item) {
        let number = self.number();
        let (Some(keys), Some(key)) = (&mut self.keys, item.message.dedup_key()) else { return };
        if keys.taken.contains_key(key) {
            return;
        }
        let (key, id): (Arc<str>, _) = (key.into(), item.message.id().clone());
        let room = item.room.beside(key.len() + id.as_str().len());
        keys.order.insert(number, (self.now.plus(keys.dedup.window), key.clone()));
        keys.taken.insert(key, Claim { id, number, _room: room });
    }

    /// The message is gone for good, or dead: its key is free.
    pub(super) fn free_key(&mut self, message: &Message) {
        if let (Some(keys), Some(key)) = (&mut self.keys, message.dedup_key()) {
            keys.free(key, message.id());
        }
    }

    /// The message is acked: its key is free where the queue is declared so.
    pub(super) fn free_acked_key(&mut self, message: &Message) {
        let until = self.keys.as_ref().map(|keys| keys.dedup.until);
        let frees = (until == Some(Until::Ack)) != planted(Bug::AckTurnsKeys);
        if frees {
            self.free_key(message);
        }
    }

    /// What went to the trash from `first` on was purged: its keys are free.
    pub(super) fn free_purged_keys(&mut self, first: usize) {
        let Some(keys) = &mut self.keys else { return };
        for item in &self.trash[first..] {
            item.message.dedup_key().into_iter().for_each(|key| keys.free(key, item.message.id()));
        }
    }

    pub(super) fn forget_keys(&mut self) {
        if let Some(keys) = &mut self.keys {
            keys.forget(self.now);
        }
    }
}
