//! Dead letters: records in the order of death, listed by page.

use std::collections::BTreeMap;

use polyqueue::{Cursor, DeadFilter, DeadLetter, DeadPage};

use crate::broker::budget::Reservation;
use crate::broker::clock::At;

/// How many records one listing looks at, so that a filter that nothing matches does not hold up the queue.
const LOOKED_AT: usize = 5_000;

/// The dead letters of a queue, by the order of death.
#[derive(Debug, Default)]
pub(super) struct DeadLetters(pub(super) BTreeMap<u64, Record>);

#[derive(Debug)]
pub(super) struct Record {
    pub(super) letter: DeadLetter,
    pub(super) room: Reservation,
    pub(super) died: At,
}

impl DeadLetters {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// When the oldest of them died.
    pub(super) fn oldest(&self) -> Option<At> {
        self.0.first_key_value().map(|(_, record)| record.died)
    }

    pub(super) fn drop_oldest(&mut self) {
        self.0.pop_first();
    }

    pub(super) fn drop_newest(&mut self) {
        self.0.pop_last();
    }

    pub(super) fn page(&self, filter: &DeadFilter, from: u64, limit: usize) -> DeadPage {
        let mut page = DeadPage::default();
        let mut next = from;
        for (&number, record) in self.0.range(from..).take(LOOKED_AT) {
            if page.letters.len() == limit {
                break;
            }
            if filter.matches(&record.letter) {
                page.letters.push(record.letter.clone());
            }
            next = number + 1;
        }
        page.next = self.0.range(next..).next().map(|_| Cursor::new(next.to_string()));
        page
    }
}
