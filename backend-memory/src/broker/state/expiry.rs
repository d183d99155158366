//! Times to live: which of the messages that wait here expires next, and its death.

use std::collections::BTreeMap;

use polyqueue::Priority;

use super::stored::Stored;
use crate::broker::clock::At;
use crate::mutants::{Bug, planted};

/// Where a message waits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Location {
    Ready(Priority),
    Delayed(At),
}

/// Where those wait that have a time to live, by its end and their place.
#[derive(Debug, Default)]
pub(super) struct Expiry(pub(super) BTreeMap<(At, u64), Location>);

impl Expiry {
    pub(super) fn watch(&mut self, item: &Stored, spot: Location) {
        if item.expires != At::NEVER && !planted(Bug::TtlIgnored) {
            self.0.insert((item.expires, item.place), spot);
        }
    }

    pub(super) fn unwatch(&mut self, item: &Stored) {
        if item.expires != At::NEVER {
            self.0.remove(&(item.expires, item.place));
        }
    }

    pub(super) fn next(&self) -> Option<(At, u64)> {
        self.0.first_key_value().map(|(key, _)| *key)
    }
}
