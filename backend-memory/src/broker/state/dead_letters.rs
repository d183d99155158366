//! Dead letters: records in the order of death, listed by page.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::OccupiedEntry;

use polyqueue::{
    Cursor, DeadBody, DeadFilter, DeadId, DeadLetter, DeadPage, DeadReason, Error, Page, QueueName, Result,
};

use super::stored::Stored;
use crate::broker::clock::{At, Clock};

/// How many records one listing looks at, so that a filter that nothing matches ends in time.
const LOOKED_AT: usize = 5_000;

/// The dead letters of a queue, by the order of death.
#[derive(Debug)]
pub(super) struct DeadLetters {
    records: BTreeMap<u64, Record>,
    queue: QueueName,
    clock: Clock,
    /// Tells this queue from another of the same name, before or after it.
    serial: u64,
}

/// A death, of which a letter is made when somebody asks.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) item: Box<Stored>,
    pub(super) reason: DeadReason,
    pub(super) error: Cow<'static, str>,
    pub(super) died: At,
}

impl DeadLetters {
    pub(super) fn new(queue: QueueName, clock: Clock, serial: u64) -> Self {
        Self { records: BTreeMap::new(), queue, clock, serial }
    }

    pub(super) fn insert(&mut self, number: u64, record: Record) {
        self.records.insert(number, record);
    }

    /// Takes the one with this id, and its number.
    pub(super) fn take(&mut self, id: &DeadId) -> Option<(u64, Record)> {
        let number = id.as_str().split_once('-')?.1.parse().ok()?;
        // Compared as text: `01` is not another way to write 1.
        if self.id(number) != *id {
            return None;
        }
        Some((number, self.records.remove(&number)?))
    }

    fn id(&self, number: u64) -> DeadId {
        DeadId::new(format!("{}-{number}", self.serial))
    }

    fn letter(&self, number: u64, record: &Record) -> DeadLetter {
        let Record { item, reason, error, died } = record;
        let Stored { message, readable, attempts, redriven, holder, .. } = &**item;
        let body = match readable {
            true => DeadBody::Message(Box::new((**message).clone())),
            false => DeadBody::Raw(message.payload().clone()),
        };
        let died_at = self.clock.wall(*died);
        let mut letter = DeadLetter::new(self.id(number), self.queue.clone(), body, *reason, died_at);
        letter.error = error.clone().into_owned();
        letter.attempts = *attempts;
        letter.total_attempts = item.all_attempts();
        letter.redriven = *redriven;
        letter.consumer = holder.as_deref().map(str::to_owned);
        letter
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Removes the oldest if it died before this number; whether it did.
    pub(super) fn remove_first(&mut self, before: u64) -> bool {
        let first = self.records.first_entry().filter(|first| *first.key() < before);
        first.map(OccupiedEntry::remove).is_some()
    }

    /// When the oldest of them died.
    pub(super) fn oldest(&self) -> Option<At> {
        self.records.first_key_value().map(|(_, record)| record.died)
    }

    pub(super) fn drop_oldest(&mut self) {
        self.records.pop_first();
    }

    pub(super) fn drop_newest(&mut self) {
        self.records.pop_last();
    }

    /// Goes on with a listing for so many looks; how many it took.
    pub(super) fn read_on(&self, listing: &mut Listing<'_>, looks: usize) -> usize {
        let before = listing.looked;
        let last = || self.records.last_key_value().map_or(0, |(number, _)| number + 1);
        let until = *listing.until.get_or_insert_with(last);
        for (&number, record) in self.records.range(listing.next..until.max(listing.next)).take(looks) {
            if listing.is_full() {
                break;
            }
            listing
                .letters
                .extend(Some(self.letter(number, record)).filter(|letter| listing.filter.matches(letter)));
            listing.looked += 1;
            listing.next = number + 1;
        }
        listing.ended = self.records.range(listing.next..until.max(listing.next)).next().is_none();
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
    /// What died since the listing began has this number or a higher one.
    until: Option<u64>,
    looked: usize,
    /// Whether there is nothing behind it.
    ended: bool,
}

impl<'a> Listing<'a> {
    /// # Errors
    /// [`Error::Invalid`] for a cursor that is none of ours.
    pub(crate) fn new(filter: &'a DeadFilter, page: &Page) -> Result<Self> {
        let (next, until) = match &page.after {
            None => (0, None),
            Some(cursor) => {
                let read =
                    |(next, until): (&str, &str)| Some((next.parse().ok()?, Some(until.parse().ok()?)));
                cursor.as_str().split_once('-').and_then(read).ok_or_else(|| {
                    Error::invalid(
                        "cursor",
                        "unreadable: allowed are those that a listing of this queue answered",
                    )
                })?
            }
        };
        Ok(Self { filter, limit: page.limit, letters: Vec::new(), next, until, looked: 0, ended: false })
    }

    pub(super) fn is_full(&self) -> bool {
        self.ended || self.letters.len() == self.limit || self.looked >= LOOKED_AT
    }

    pub(crate) fn page(self) -> DeadPage {
        let until = self.until.filter(|_| !self.ended);
        let next = until.map(|until| Cursor::new(format!("{}-{until}", self.next)));
        let mut page = DeadPage::default();
        (page.dead_letters, page.next) = (self.letters, next);
        page
    }
}
