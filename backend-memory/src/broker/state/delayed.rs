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
    /// The same by a hash of the id, and some that were taken as the first: those are swept away by and by, in this order,
    /// which costs less than to look for each.
    by_id: BTreeSet<Alike>,
    /// The last that was taken as the first: those before it are gone.
    taken: Waiting,
    swept: Alike,
    hasher: RandomState,
}

/// The hash of an id, and what waits under it.
type Alike = (u64, Waiting);

/// So many are looked at for each that is taken, while those that are gone outnumber those that wait.
const SWEPT: usize = 4;

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
        self.taken = key;
        for _ in 0..SWEPT {
            if self.by_id.len() <= 2 * self.by_time.len() {
                break;
            }
            self.sweep();
        }
        Some((key.0, item))
    }

    fn sweep(&mut self) {
        let next = self.by_id.range(self.swept..).next().copied();
        if let Some(alike) = next.filter(|alike| alike.1 <= self.taken) {
            self.by_id.remove(&alike);
        }
        self.swept =
            next.map_or_else(Alike::default, |(hash, (at, place))| (hash, (at, place.saturating_add(1))));
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
    pub(super) fn drain(&mut self) -> (impl Iterator<Item = Box<Stored>> + use<>, BTreeSet<Alike>) {
        let Self { by_time, by_id, .. } = std::mem::take(self);
        (by_time.into_values(), by_id)
    }
}

/// The number behind a place, and the place of a number.
pub(super) fn number_of(place: u64) -> u64 {
    if planted(Bug::DueNewestFirst) { u64::MAX - place } else { place }
}

#[cfg(test)]
mod tests {
    use polyqueue::Message;

    use super::*;
    use crate::broker::budget::Budget;

    #[test]
    fn what_was_taken_is_not_remembered_for_long() {
        let (mut delayed, budget) =
            (Delayed::default(), Budget::new(u64::MAX, polyqueue::backend::EventSender::new("")));
        for number in 1..=20_000 {
            let now = number / 5;
            let message = Message::new("x");
            let room = budget.reserve(&message).unwrap();
            let mut item = Stored::new(message, room);
            item.place = number;
            delayed.insert(At(now + 1 + number * 7 % 1_000), item);
            while delayed.first().is_some_and(|first| first.0 <= At(now)) {
                delayed.pop_first();
            }
            assert!(
                delayed.by_id.len() <= 2 * delayed.len() + 100,
                "{} for {}",
                delayed.by_id.len(),
                delayed.len()
            );
        }
        while delayed.pop_first().is_some() {}
        assert!(delayed.by_id.len() <= 100, "{}", delayed.by_id.len());
    }
}
