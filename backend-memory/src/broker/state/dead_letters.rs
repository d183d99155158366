//! Dead letters: records in the order of death, listed by page.

use std::collections::BTreeMap;
use std::collections::btree_map::OccupiedEntry;

use polyqueue::{Cursor, DeadFilter, DeadLetter, DeadPage, Error, Page, Result};

use crate::broker::budget::Reservation;
use crate::broker::clock::At;

/// How many records one listing looks at, so that a filter that nothing matches ends in time.
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

    /// Removes the oldest if it died before this number; whether it did.
    pub(super) fn remove_first(&mut self, before: u64) -> bool {
        let first = self.0.first_entry().filter(|first| *first.key() < before);
        first.map(OccupiedEntry::remove).is_some()
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

    /// Goes on with a listing for so many looks; how many it took.
    pub(super) fn read_on(&self, listing: &mut Listing<'_>, looks: usize) -> usize {
        let before = listing.looked;
        for (&number, record) in self.0.range(listing.next..).take(looks) {
            if listing.is_full() {
                break;
            }
            if listing.filter.matches(&record.letter) {
                listing.letters.push(record.letter.clone());
            }
            listing.looked += 1;
            listing.next = number + 1;
        }
        listing.ended = self.0.range(listing.next..).next().is_none();
        listing.looked - before
    }
}

/// One page of a listing, as far as it was read.
#[derive(Debug)]
pub(crate) struct Listing<'a> {
    filter: &'a DeadFilter,
    limit: usize,
    letters: Vec<DeadLetter>,
    next: u64,
    looked: usize,
    /// Whether there is nothing behind it.
    ended: bool,
}

impl<'a> Listing<'a> {
    /// # Errors
    /// [`Error::Invalid`] for a cursor that is none of ours.
    pub(crate) fn new(filter: &'a DeadFilter, page: &Page) -> Result<Self> {
        let next = page.after.as_ref().map_or(Ok(0), |cursor| cursor.as_str().parse());
        let next = next.map_err(|_| {
            Error::invalid("cursor", "unreadable: allowed are those that a listing of this queue answered")
        })?;
        Ok(Self { filter, limit: page.limit, letters: Vec::new(), next, looked: 0, ended: false })
    }

    pub(super) fn is_full(&self) -> bool {
        self.ended || self.letters.len() == self.limit || self.looked >= LOOKED_AT
    }

    pub(crate) fn page(self) -> DeadPage {
        let next = (!self.ended).then(|| Cursor::new(self.next.to_string()));
        let mut page = DeadPage::default();
        (page.letters, page.next) = (self.letters, next);
        page
    }
}
