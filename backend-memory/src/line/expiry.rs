//! Times to live: which of the messages that wait here expires next, and its death.

use std::collections::BTreeMap;

use polyqueue::{DeadReason, Priority};

use super::Line;
use super::item::Item;
use crate::clock::At;
use crate::mutants::{Bug, planted};

/// What the error of a dead letter says whose time to live had ended.
const EXPIRED: &str = "expired";

/// Where a message waits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spot {
    Ready(Priority),
    Delayed(At),
}

/// Where those wait that have a time to live, by its end and their place.
#[derive(Debug, Default)]
pub(super) struct Expiry(BTreeMap<(At, u64), Spot>);

impl Expiry {
    pub(super) fn watch(&mut self, item: &Item, spot: Spot) {
        if item.expires != At::NEVER && !planted(Bug::TtlIgnored) {
            self.0.insert((item.expires, item.place), spot);
        }
    }

    pub(super) fn unwatch(&mut self, item: &Item) {
        if item.expires != At::NEVER {
            self.0.remove(&(item.expires, item.place));
        }
    }

    pub(super) fn next(&self) -> Option<(At, u64)> {
        self.0.first_key_value().map(|(key, _)| *key)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Line {
    /// The next one that expires does.
    pub(super) fn expire_first(&mut self) {
        let Some(((at, place), spot)) = self.expiry.0.pop_first() else { return };
        let item = match spot {
            Spot::Ready(priority) => self.ready.remove(priority, place),
            Spot::Delayed(due) => self.delayed.remove(&(due, place)),
        };
        if let Some(item) = item {
            self.bury_expired(*item, at);
        }
    }

    pub(super) fn bury_expired(&mut self, item: Item, at: At) {
        if planted(Bug::ExpiredVanish) {
            return self.free_key(&item.message);
        }
        self.bury(item, DeadReason::Expired, EXPIRED.into(), at);
    }
}
