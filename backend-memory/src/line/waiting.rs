//! Receives that wait for a message: the oldest that may have one is served first, the oldest of all keeps the time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::hand_out::Handed;
use crate::clock::At;
use crate::receipt::ReaderId;

/// Identifies a call that waits; older ones are smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

impl Ticket {
    /// One sequence for the process: a publish may wait at several queues.
    pub(crate) fn next() -> Self {
        static TICKETS: AtomicU64 = AtomicU64::new(0);
        Self(TICKETS.fetch_add(1, Relaxed))
    }
}

/// What a receive waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) reader: ReaderId,
    pub(super) max: usize,
}

/// How a wait ended.
#[derive(Debug)]
pub(crate) enum Answer {
    /// With messages; with none when the consumer was closed.
    Handed(Vec<Handed>),
    /// The handle was closed.
    Closed,
    /// The queue was deleted.
    Deleted,
}

/// Receives that wait for a message.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    asks: BTreeMap<Ticket, Ask>,
    /// Those whose consumer has room.
    open: BTreeSet<Ticket>,
    /// Answers that nobody has fetched yet.
    answers: HashMap<Ticket, Answer>,
    /// Whom to wake when the call that is under way is over.
    woken: Vec<Ticket>,
    /// The receive that keeps the time, and for when its timer is set.
    keeper: Option<(Ticket, Option<At>)>,
}

impl Waiting {
    pub(super) fn enter(&mut self, ask: Ask, open: bool) -> Ticket {
        let ticket = Ticket::next();
        self.asks.insert(ticket, ask);
        self.set_open(ticket, open);
        ticket
    }

    pub(super) fn set_open(&mut self, ticket: Ticket, open: bool) {
        if open {
            self.open.insert(ticket);
        } else {
            self.open.remove(&ticket);
        }
    }

    /// The receive to be served next.
    pub(super) fn next_open(&self) -> Option<(Ticket, Ask)> {
        let ticket = self.open.first()?;
        Some((*ticket, *self.asks.get(ticket)?))
    }

    /// Ends a wait; its receive is woken to fetch the answer.
    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if self.leave(ticket).is_some() {
            self.answers.insert(ticket, answer);
            self.woken.push(ticket);
        }
    }

    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Ask> {
        self.open.remove(&ticket);
        self.asks.remove(&ticket)
    }

    pub(super) fn fetch(&mut self, ticket: Ticket) -> Option<Answer> {
        self.answers.remove(&ticket)
    }

    pub(super) fn tickets(&self) -> Vec<Ticket> {
        self.asks.keys().copied().collect()
    }

    /// Makes the oldest receive keep the time; the others sleep until they are woken. Answers until when it sleeps.
    pub(super) fn keep_time(&mut self, ticket: Ticket, due: Option<At>) -> Option<At> {
        if self.asks.keys().next() != Some(&ticket) {
            return None;
        }
        self.keeper = Some((ticket, due));
        due
    }

    /// Wakes the oldest receive when its timer is not set for as early as `due`, be it new in this place.
    pub(super) fn mind(&mut self, due: Option<At>) {
        let (Some((&oldest, _)), Some(due)) = (self.asks.first_key_value(), due) else { return };
        let armed = self.keeper.filter(|(ticket, _)| *ticket == oldest).and_then(|(_, armed)| armed);
        if armed.is_none_or(|armed| due < armed) {
            self.keeper = Some((oldest, Some(due)));
            self.woken.push(oldest);
        }
    }

    pub(super) fn woken(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.woken)
    }
}
