//! One queue's data and rules, pure and synchronous: what is ready, delayed, in somebody's hands or dead.
//!
//! Nothing here waits, wakes or reads a clock. Every call is preceded by [`Line::advance`], which applies what has become
//! due, and followed by [`Line::effects`], which says whom to wake. Between calls no receive waits while something
//! that it may have is ready.

#![allow(clippy::vec_box, reason = "a message moves from place to place by its pointer")]

mod dead;
mod entry;
mod expiry;
mod flight;
mod hand_out;
mod item;
mod keys;
mod ready;
mod reschedule;
mod retention;
mod room;
#[cfg(test)]
mod tests;
mod verdicts;
mod waiting;

use std::collections::{BTreeMap, HashMap};

use polyqueue::{
    Bound, Counters, DeadReason, Purge, QueueName, QueueSpec, QueueStats, Retention, Subscription,
};

use crate::clock::{At, Clock};
use crate::mutants::{Bug, planted};
use crate::receipt::{ReaderId, Token};
use expiry::Spot;
use hand_out::Reader;

pub(crate) use entry::Entry;
pub(crate) use hand_out::{Asked, Handed};
pub(crate) use item::Item;
pub(crate) use waiting::{Answer, Ticket};

/// What the error of a dead letter says when the last lease ended without a verdict.
const LEASE_ENDED: &str = "lease expired";

/// One queue.
#[derive(Debug)]
pub(crate) struct Line {
    name: QueueName,
    bound: Option<Bound>,
    retention: Retention,
    clock: Clock,
    /// Tells this queue from another of the same name, before or after it.
    serial: u64,
    now: At,
    #[cfg(polyqueue_mutants)]
    before: At,
    numbers: u64,
    ready: ready::Ready,
    delayed: BTreeMap<(At, u64), Box<Item>>,
    expiry: expiry::Expiry,
    flight: flight::Flight,
    dead: dead::Dead,
    keys: Option<keys::Keys>,
    readers: HashMap<ReaderId, Reader>,
    waiting: waiting::Waiting,
    blocked: room::Blocked,
    /// Messages that are gone: to be dropped where nobody waits for it.
    trash: Trash,
    tally: Tally,
    deleted: bool,
}

/// What a call did that is to be counted for its caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) published: u64,
    pub(crate) duplicates: u64,
    pub(crate) refused: u64,
    pub(crate) overflowed: u64,
    pub(crate) dropped: u64,
}

/// Messages that are gone.
pub(crate) type Trash = Vec<Box<Item>>;

/// What is to be done when a call is over.
#[derive(Debug)]
pub(crate) struct Effects {
    /// Calls to wake.
    pub(crate) woken: Vec<Ticket>,
    /// Messages to drop.
    pub(crate) trash: Trash,
    /// What is to be counted.
    pub(crate) tally: Tally,
}

impl Line {
    pub(crate) fn new(spec: &QueueSpec, clock: Clock, serial: u64) -> Self {
        Self {
            name: spec.name.clone(),
            bound: spec.bound,
            retention: spec.dead,
            clock,
            serial,
            now: At::default(),
            #[cfg(polyqueue_mutants)]
            before: At::default(),
            numbers: 0,
            ready: ready::Ready::default(),
            delayed: BTreeMap::new(),
            expiry: expiry::Expiry::default(),
            flight: flight::Flight::default(),
            dead: dead::Dead::default(),
            keys: spec.dedup.map(keys::Keys::new),
            readers: HashMap::new(),
            waiting: waiting::Waiting::default(),
            blocked: room::Blocked::default(),
            trash: Vec::new(),
            tally: Tally::default(),
            deleted: false,
        }
    }

    /// A fresh number: one sequence orders hand-outs, delays and deaths.
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Moves the time on and applies what has become due by then, in the order of its time; at one instant in the order
    /// in which it was begun.
    pub(crate) fn advance(&mut self, now: At) {
        #[cfg(polyqueue_mutants)]
        {
            self.before = self.now;
        }
        // Two runtimes with clocks of their own may share a broker: time never goes back.
        self.now = self.now.max(now);
        let mut changed = false;
        while let Some(due) = self.next_event().filter(|event| event.0 <= self.now) {
            match due {
                (_, _, Event::Due) => self.promote_first(),
                (at, number, Event::LeaseEnds) => self.end_lease(at, Token(number)),
                (_, _, Event::Expires) => self.expire_first(),
            }
            changed = true;
        }
        self.flight.forget(self.now);
        self.forget_keys();
        self.drop_old_letters();
        if changed || planted(Bug::PublishWakesNobody) {
            self.serve();
        }
    }

    pub(crate) fn now(&self) -> At {
        self.now
    }

    fn next_event(&self) -> Option<(At, u64, Event)> {
        let due = self.delayed.keys().next().map(|&(at, number)| (at, number, Event::Due));
        let end = self.flight.next_end().map(|(at, token)| (at, token.0, Event::LeaseEnds));
        let expires = self.expiry.next().map(|(at, number)| (at, number, Event::Expires));
        due.into_iter().chain(end).chain(expires).min()
    }

    /// When something becomes due by itself.
    fn next_due(&self) -> Option<At> {
        let due = self.delayed.keys().next().map(|key| key.0).filter(|_| !planted(Bug::DueWakesNobody));
        let end = self.flight.next_end().map(|end| end.0).filter(|_| !planted(Bug::ExpiryWakesNobody));
        let expires = self.expiry.next().map(|next| next.0);
        due.into_iter().chain(end).chain(expires).min()
    }

    fn promote_first(&mut self) {
        if let Some(((due, _), item)) = self.delayed.pop_first() {
            self.expiry.unwatch(&item);
            self.make_ready(item, due);
        }
    }

    fn end_lease(&mut self, at: At, token: Token) {
        let Some(held) = self.flight.release(token) else { return };
        self.vacate(held.reader);
        let mut item = held.item;
        if planted(Bug::ExpiryFree) {
            item.attempts -= 1;
        }
        if hand_out::is_used_up(item.attempts, held.max) {
            return self.bury(*item, DeadReason::MaxAttempts, LEASE_ENDED.into(), at);
        }
        if item.is_expired(at) {
            return self.bury_expired(*item, at);
        }
        if planted(Bug::ExpiredFirst) {
            item.ready_since = at;
            item.place = 0;
            return self.ready.put_back(item);
        }
        self.make_ready(item, at);
    }

    /// Ready since `since`, behind all of its priority.
    fn make_ready(&mut self, mut item: Box<Item>, since: At) {
        item.place = self.number();
        item.ready_since = since;
        self.expiry.watch(&item, Spot::Ready(item.message.priority()));
        self.ready.push(item);
    }

    /// Ready at `at`, which may be now.
    fn ready_at(&mut self, mut item: Box<Item>, at: At) {
        if at <= self.now {
            return self.make_ready(item, self.now);
        }
        let number = self.number();
        let number = if planted(Bug::DueNewestFirst) { u64::MAX - number } else { number };
        item.place = number;
        self.expiry.watch(&item, Spot::Delayed(at));
        self.delayed.insert((at, number), item);
    }

    #[cfg(not(polyqueue_mutants))]
    fn due(&self, due: At, _: std::time::Duration) -> At {
        due
    }

    #[cfg(polyqueue_mutants)]
    fn due(&self, due: At, delay: std::time::Duration) -> At {
        if planted(Bug::EarlyByOne) {
            return due.minus(std::time::Duration::from_millis(1));
        }
        if planted(Bug::DelayFromBefore) {
            return self.before.plus(delay);
        }
        let last = self.delayed.last_key_value().map(|(key, _)| key.0);
        if planted(Bug::HeadOfLine) { last.map_or(due, |last| due.max(last)) } else { due }
    }

    /// A consumer comes.
    pub(crate) fn join(&mut self, id: ReaderId, subscription: &Subscription) {
        self.readers.insert(id, Reader::new(subscription));
    }

    /// A consumer goes; the leases of what it holds run on to their end.
    pub(crate) fn leave(&mut self, id: ReaderId) {
        self.close_reader(id);
        self.readers.remove(&id);
    }

    /// How many messages are where; the counters are the handle's to fill in.
    pub(crate) fn stats(&self) -> QueueStats {
        let wrong = if planted(Bug::DelayedAsReady) { self.delayed.len() } else { 0 };
        QueueStats {
            ready: (self.ready.len() + wrong) as u64,
            dead: self.dead.len() as u64,
            delayed: Some(self.delayed.len() as u64),
            in_flight: Some(self.flight.len() as u64),
            oldest: self.ready.oldest().map(|since| self.now.since(since)),
            counters: Counters::default(),
        }
    }

    /// Removes messages, answering how many; those in flight are spared.
    pub(crate) fn purge(&mut self, what: Purge) -> u64 {
        if what == Purge::Dead {
            let dead = self.dead.len();
            self.dead.clear();
            return dead as u64;
        }
        let before = self.trash.len();
        self.expiry.clear();
        self.trash.extend(self.ready.drain());
        if !planted(Bug::PurgeForgetsDelayed) {
            self.trash.extend(std::mem::take(&mut self.delayed).into_values());
        }
        self.free_purged_keys(before);
        if planted(Bug::PurgeTakesInFlight) {
            self.trash.extend(self.flight.drain());
        }
        (self.trash.len() - before) as u64
    }

    /// The end of the queue: nothing is left of it, and whoever waits is told.
    pub(crate) fn delete(&mut self) {
        self.deleted = true;
        self.purge(Purge::Waiting);
        self.purge(Purge::Dead);
        self.trash.extend(self.flight.drain());
        self.keys.iter_mut().for_each(keys::Keys::clear);
        for ticket in self.waiting.tickets() {
            self.waiting.answer(ticket, Answer::Deleted);
        }
        self.readers.clear();
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// What is to be done when a call is over.
    pub(crate) fn effects(&mut self) -> Effects {
        let due = self.next_due();
        self.waiting.mind(due);
        let mut woken = self.waiting.woken();
        woken.extend(self.roused());
        let (trash, tally) = (std::mem::take(&mut self.trash), std::mem::take(&mut self.tally));
        Effects { woken, trash, tally }
    }
}

/// What becomes due by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Due,
    LeaseEnds,
    Expires,
}
