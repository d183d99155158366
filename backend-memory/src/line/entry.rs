//! Entry: whether a message that is published may come in, and how it does.

use std::time::Duration;

use polyqueue::{DeadReason, Error, Message, MessageId, Overflow};

use super::Line;
use super::item::Item;
use crate::mutants::{Bug, planted};

/// What the error of a dead letter says that made room for another message.
const OVERFLOW: &str = "dropped to make room";

/// What would become of a message.
#[derive(Debug)]
pub(crate) enum Entry {
    /// It comes in.
    Open,
    /// This message has its dedup key.
    Duplicate(MessageId),
    /// There is no room, and it is to be told so.
    Full(Error),
    /// There is no room yet.
    Wait,
}

impl Line {
    /// What would become of a message now. Those who wait are served first when that may make room.
    pub(crate) fn look(&mut self, message: &Message) -> Entry {
        #[cfg(polyqueue_mutants)]
        self.begin_window_anew(message);
        if let Some(first) = self.holder_of(message) {
            return Entry::Duplicate(first.clone());
        }
        let Some(bound) = self.bound.filter(|_| message.delay().is_zero()) else { return Entry::Open };
        if bound.overflow == Overflow::DropOldest || !self.is_full(bound.max_len) {
            return Entry::Open;
        }
        match bound.overflow {
            Overflow::Block => Entry::Wait,
            _ => Entry::Full(Error::full(format!("queue {}", self.name), bound.max_len)),
        }
    }

    /// Whether so many are ready that nobody waits for.
    fn is_full(&mut self, max: u64) -> bool {
        self.ready.len() as u64 >= max && {
            self.announce();
            self.ready.len() as u64 >= max
        }
    }

    /// Stores a message for which [`Line::look`] said `Open`, of which those who wait are told by [`Line::announce`].
    pub(crate) fn enter(&mut self, mut item: Box<Item>) {
        self.tally.published += 1;
        self.take_key(&item);
        item.live_from(self.now);
        let delay = item.message.delay();
        if delay.is_zero() {
            self.make_ready(item, self.now);
            return self.drop_surplus();
        }
        item.message = item.message.with_delay(Duration::ZERO);
        let due = self.due(self.now.plus(delay), delay);
        self.ready_at(item, due);
    }

    /// One that comes in makes another go, where the queue is declared so.
    fn drop_surplus(&mut self) {
        let Some(bound) = self.bound.filter(|bound| bound.overflow == Overflow::DropOldest) else { return };
        if self.ready.len() as u64 <= bound.max_len || !self.is_full(bound.max_len + 1) {
            return;
        }
        if let Some(item) = self.ready.pop_least() {
            self.expiry.unwatch(&item);
            self.tally.overflowed += 1;
            self.bury(*item, DeadReason::Overflow, OVERFLOW.into(), self.now);
        }
    }

    /// Serves those who wait with what came in.
    pub(crate) fn announce(&mut self) {
        if !planted(Bug::PublishWakesNobody) {
            self.serve();
        }
    }

    /// A message was a duplicate here.
    pub(crate) fn skip(&mut self) {
        self.tally.published += 1;
        self.tally.duplicates += 1;
    }

    /// A message found no room here.
    pub(crate) fn refuse(&mut self) {
        self.tally.refused += 1;
    }
}
