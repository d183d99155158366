//! Receives that wait for a message: the oldest that may have one is served first, the oldest of all keeps the time.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::{ById, ConsumerId, HandedOut, WaiterId};
use crate::broker::clock::At;

/// What a receive waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingReceive {
    pub(super) consumer: ConsumerId,
    pub(super) max: usize,
}

/// How a wait ended.
#[derive(Debug)]
pub(crate) enum WaitOutcome {
    /// With messages; with none when the consumer was closed.
    HandedOut(Vec<HandedOut>),
    /// The handle was closed.
    Closed,
}

/// Receives that wait for a message.
#[derive(Debug, Default)]
pub(super) struct PendingReceives {
    receives: BTreeMap<WaiterId, PendingReceive>,
    /// The oldest of each consumer that has room.
    open: BTreeSet<WaiterId>,
    /// Answers that nobody has fetched yet.
    answers: ById<WaiterId, WaitOutcome>,
    /// Whom to wake when the call that is under way is over.
    woken: Vec<WaiterId>,
    /// The receive that keeps the time, and for when its timer is set.
    keeper: Option<(WaiterId, Option<At>)>,
}

impl PendingReceives {
    pub(super) fn enter(&mut self, begin_receive: PendingReceive) -> WaiterId {
        let waiter = WaiterId::next();
        self.receives.insert(waiter, begin_receive);
        waiter
    }

    /// One receive may be served instead of another.
    pub(super) fn set_open(&mut self, before: Option<WaiterId>, now: Option<WaiterId>) {
        if let Some(before) = before {
            self.open.remove(&before);
        }
        self.open.extend(now);
    }

    /// The receive to be served next.
    pub(super) fn next_open(&self) -> Option<(WaiterId, PendingReceive)> {
        let waiter = self.open.first()?;
        Some((*waiter, *self.receives.get(waiter)?))
    }

    /// Ends a wait; its receive is woken to fetch the answer.
    pub(super) fn answer(&mut self, waiter: WaiterId, answer: WaitOutcome) {
        if self.leave(waiter).is_some() {
            self.answers.insert(waiter, answer);
            self.woken.push(waiter);
        }
    }

    pub(super) fn leave(&mut self, waiter: WaiterId) -> Option<PendingReceive> {
        self.open.remove(&waiter);
        self.receives.remove(&waiter)
    }

    pub(super) fn fetch(&mut self, waiter: WaiterId) -> Option<WaitOutcome> {
        self.answers.remove(&waiter)
    }

    /// Makes the oldest receive keep the time; the others sleep until they are woken. Answers until when it sleeps.
    pub(super) fn keep_time(&mut self, waiter: WaiterId, due: Option<At>) -> Option<At> {
        if self.receives.keys().next() != Some(&waiter) {
            return None;
        }
        self.keeper = Some((waiter, due));
        due
    }

    /// Wakes the oldest receive when its timer is not set for as early as `due`, be it new in this place.
    pub(super) fn check_timer(&mut self, due: Option<At>) {
        let (Some((&oldest, _)), Some(due)) = (self.receives.first_key_value(), due) else { return };
        let armed = self.keeper.filter(|(waiter, _)| *waiter == oldest).and_then(|(_, armed)| armed);
        if armed.is_none_or(|armed| due < armed) {
            self.keeper = Some((oldest, Some(due)));
            self.woken.push(oldest);
        }
    }

    pub(super) fn woken(&mut self) -> Vec<WaiterId> {
        std::mem::take(&mut self.woken)
    }
}
