//! What waits for its time, in the order of it, and found by its id.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};

use polyqueue::MessageId;

use super::stored::Stored;
use crate::broker::clock::At;
use crate::mutants::{Bug, planted};

/// What waits for its time.
#[derive(Debug, Default)]
pub(super) struct Delayed {
    by_time: BTreeMap<Waiting, Box<Stored>>,
    /// The same by a hash of the id.
    by_id: BTreeSet<(u64, Waiting)>,
    hasher: RandomState,
}

/// When it is due, and its place among those that are due then.
pub(super) type Waiting = (At, u64);

impl Delayed {
    pub(super) fn len(&self) -> usize {
        self.by_time.len()
    }

    pub(super) fn first(&self) -> Option<Waiting> {
        self.by_time.first_key_value().map(|(key, _)| *key)
    }

    #[cfg(polyqueue_mutants)]
    pub(super) fn last(&self) -> Option<Waiting> {
        self.by_time.last_key_value().map(|(key, _)| *key)
    }

    /// Due at this time, at its own place.
    pub(super) fn insert(&mut self, due: At, item: Box<Stored>) {
        let key = (due, item.place);
        self.by_id.insert((self.hasher.hash_one(item.message.id()), key));
        self.by_time.insert(key, item);
    }

    pub(super) fn pop_first(&mut self) -> Option<(At, Box<Stored>)> {
        let (key, item) = self.by_time.pop_first()?;
        self.by_id.remove(&(self.hasher.hash_one(item.message.id()), key));
        Some((key.0, item))
    }

    pub(super) fn remove(&mut self, key: Waiting) -> Option<Box<Stored>> {
        let item = self.by_time.remove(&key)?;
        self.by_id.remove(&(self.hasher.hash_one(item.message.id()), key));
        Some(item)
    }

    /// The first from this time on that may have this id.
    pub(super) fn next_like(&self, id: &MessageId, from: Waiting) -> Option<Waiting> {
        let hash = self.hasher.hash_one(id);
        let alike = self.by_id.range((hash, from)..=(hash, (At::NEVER, u64::MAX))).next();
        alike.map(|(_, key)| *key)
    }

    pub(super) fn has_id(&self, key: Waiting, id: &MessageId) -> bool {
        self.by_time.get(&key).is_some_and(|item| item.message.id() == id)
    }

    /// Everything, leaving nothing, and what it was found by.
    pub(super) fn drain(&mut self) -> (impl Iterator<Item = Box<Stored>> + use<>, BTreeSet<(u64, Waiting)>) {
        let Self { by_time, by_id, .. } = std::mem::take(self);
        (by_time.into_values(), by_id)
    }
}

/// The number behind a place, and the place of a number.
pub(super) fn number_of(place: u64) -> u64 {
    if planted(Bug::DueNewestFirst) { u64::MAX - place } else { place }
}
