//! Dead letters: records in the order of death, listed by page, redriven or discarded by id.

use std::collections::BTreeMap;

use polyqueue::{
    Cursor, DeadBody, DeadFilter, DeadId, DeadLetter, DeadPage, DeadReason, Error, Page, Result, cut_error,
};

use super::Line;
use super::item::Item;
use crate::budget::Room;
use crate::clock::At;
use crate::mutants::{Bug, planted};

/// How many records one listing looks at, so that a filter that nothing matches does not hold up the queue.
const LOOKED_AT: usize = 5_000;

/// The dead letters of a queue, by the order of death.
#[derive(Debug, Default)]
pub(super) struct Dead(BTreeMap<u64, Record>);

#[derive(Debug)]
struct Record {
    letter: DeadLetter,
    room: Room,
    died: At,
}

impl Dead {
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

    fn page(&self, filter: &DeadFilter, from: u64, limit: usize) -> DeadPage {
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

impl Line {
    /// Makes a dead letter of a message that is nowhere else.
    pub(super) fn bury(&mut self, item: Item, reason: DeadReason, error: String, at: At) {
        if !planted(Bug::DeadKeepsKey) {
            self.free_key(&item.message);
        }
        let Item { message, readable, attempts, earlier, redriven, holder, mut room, .. } = item;
        let attempts = attempts.saturating_sub(planted(Bug::DeadCountsWrong).into());
        let error = if planted(Bug::DeadLosesError) { String::new() } else { cut_error(error) };
        room.refit(&message, &error);
        let number = self.number();
        let letter = DeadLetter {
            id: DeadId::new(format!("{}-{number}", self.serial)),
            queue: self.name.clone(),
            reason,
            error,
            attempts,
            total_attempts: earlier.saturating_add(attempts),
            redriven,
            first_published_at: message.published_at().filter(|_| readable),
            died_at: self.clock.wall(at),
            consumer: holder.as_deref().map(str::to_owned),
            body: match readable {
                true => DeadBody::Message(Box::new(message)),
                false => DeadBody::Raw(message.payload().clone()),
            },
        };
        self.dead.0.insert(number, Record { letter, room, died: at });
        self.drop_surplus_letters();
    }

    /// The letters that match, from where a cursor points.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a cursor that is none of ours.
    pub(crate) fn dead_letters(&self, filter: &DeadFilter, page: &Page) -> Result<DeadPage> {
        let from = match &page.after {
            None => 0,
            Some(cursor) => cursor.as_str().parse().map_err(|_| {
                Error::invalid(
                    "cursor",
                    "unreadable: allowed are those that a listing of this queue answered",
                )
            })?,
        };
        Ok(self.dead.page(filter, from, page.limit))
    }

    /// Makes a dead letter ready again, its time to live as long as ever; `false` when it is not there.
    pub(crate) fn redrive(&mut self, id: &DeadId) -> bool {
        let Some(Record { letter, room, .. }) = self.unbury(id) else { return false };
        #[cfg(polyqueue_mutants)]
        self.keep_letter(&letter, &room);
        let mut item = match letter.body {
            DeadBody::Message(message) => Item::new(*message, room),
            DeadBody::Raw(bytes) => Item::unreadable(bytes, room),
        };
        item.earlier = letter.total_attempts;
        item.redriven = letter.redriven.saturating_add(1);
        item.holder = letter.consumer.map(Into::into);
        if planted(Bug::RedriveKeepsAttempts) {
            item.attempts = letter.attempts;
        }
        if planted(Bug::RedriveLosesHeaders) {
            item.message.headers_mut().clear();
        }
        item.live_from(self.now);
        item.room.refit(&item.message, "");
        self.make_ready(item, self.now);
        self.serve();
        true
    }

    #[cfg(polyqueue_mutants)]
    fn keep_letter(&mut self, letter: &DeadLetter, room: &Room) {
        let number = letter.id.as_str().split_once('-').and_then(|(_, number)| number.parse().ok());
        if let (true, Some(number), Some(message)) =
            (planted(Bug::RedriveKeepsLetter), number, letter.message())
            && let Ok(room) = room.another(message)
        {
            self.dead.0.insert(number, Record { letter: letter.clone(), room, died: self.now });
        }
    }

    /// Removes a dead letter for good; `false` when it is not there.
    pub(crate) fn discard(&mut self, id: &DeadId) -> bool {
        self.unbury(id).is_some()
    }

    fn unbury(&mut self, id: &DeadId) -> Option<Record> {
        let (serial, number) = id.as_str().split_once('-')?;
        let number = number.parse().ok()?;
        // Compared as text: `01` is not another way to write 1.
        let known = self.dead.0.get(&number)?;
        if known.letter.id != *id || serial.parse() != Ok(self.serial) {
            return None;
        }
        self.dead.0.remove(&number)
    }
}
