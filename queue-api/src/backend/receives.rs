//! The receives of one consumer that were not taken yet: what each wants and was given. Pure; the lock is elsewhere.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::demand::Demand;
use crate::lifecycle::CloseReason;
use crate::{Error, Result};

/// Who receives again so soon has waited all the time.
const GAP: Duration = Duration::from_millis(200);

/// The receives, by their numbers, the oldest first.
#[derive(Debug)]
pub(super) struct Receives<T> {
    pending: BTreeMap<u64, Pending<T>>,
    /// How many there have been.
    arrived: u64,
    /// Since when nothing was given, as long as somebody waited.
    unfed_since: Option<Instant>,
    /// When the last one that waited had gone.
    left: Option<Instant>,
    returned: Vec<T>,
    closed: Option<CloseReason>,
    /// Why the broker cannot be asked.
    pub(super) trouble: Option<Error>,
    /// Whom to wake when the lock is free.
    pub(super) woken: Vec<Waker>,
}

#[derive(Debug)]
struct Pending<T> {
    max: usize,
    until: Instant,
    outcome: Option<Result<Vec<T>>>,
    waker: Option<Waker>,
}

impl<T> Default for Receives<T> {
    fn default() -> Self {
        Self {
            pending: BTreeMap::new(),
            arrived: 0,
            unfed_since: None,
            left: None,
            returned: Vec::new(),
            closed: None,
            trouble: None,
            woken: Vec::new(),
        }
    }
}

impl<T> Receives<T> {
    /// Answers its number.
    pub(super) fn add(&mut self, max: usize, until: Instant) -> u64 {
        let now = Instant::now();
        if self.pending.is_empty() && self.left.is_none_or(|left| now.duration_since(left) > GAP) {
            self.unfed_since = Some(now);
        }
        self.arrived += 1;
        let nothing = (max == 0).then_some(Ok(Vec::new()));
        let outcome = self.closed.map(CloseReason::outcome).or(nothing);
        self.pending.insert(self.arrived, Pending { max, until, outcome, waker: None });
        self.arrived
    }

    /// Its outcome, if it has one; else it leaves its waker, for the one that it left before.
    pub(super) fn take(&mut self, number: u64, waker: &Waker) -> Result<Result<Vec<T>>, Option<Waker>> {
        let Some(receive) = self.pending.get_mut(&number) else { return Err(None) };
        if receive.outcome.is_none() {
            return Err(receive.waker.replace(waker.clone()));
        }
        let outcome = self.pending.remove(&number).and_then(|receive| receive.outcome);
        self.note_gone();
        outcome.ok_or(None)
    }

    /// It has gone; what it was given and did not take is kept for the fetcher.
    pub(super) fn remove(&mut self, number: u64) -> Option<Waker> {
        let Pending { outcome, waker, .. } = self.pending.remove(&number)?;
        self.note_gone();
        self.returned.extend(outcome.and_then(Result::ok).into_iter().flatten());
        waker
    }

    pub(super) fn demand(&self, now: Instant) -> Option<Demand> {
        let mut waiting = self.pending.iter().filter(|(_, receive)| receive.outcome.is_none());
        let (number, first) = waiting.next()?;
        let demand = first.demand(*number, now);
        Some(waiting.fold(demand, |demand, (number, receive)| demand.and(receive.demand(*number, now))))
    }

    fn note_gone(&mut self) {
        if self.pending.is_empty() {
            self.left = Some(Instant::now());
        }
    }

    /// Since when somebody has waited, one receive after the other, and was given nothing.
    pub(super) fn unfed_since(&self) -> Option<Instant> {
        let waits = self.pending.values().any(|receive| receive.outcome.is_none());
        self.unfed_since.filter(|_| waits)
    }

    pub(super) fn offer(&mut self, messages: Vec<T>) -> Vec<T> {
        if !messages.is_empty() {
            self.unfed_since = Some(Instant::now());
        }
        let mut rest = messages;
        for receive in self.pending.values_mut().filter(|receive| receive.outcome.is_none()) {
            if rest.is_empty() {
                break;
            }
            let behind = rest.split_off(receive.max.min(rest.len()));
            receive.end(Ok(rest), &mut self.woken);
            rest = behind;
        }
        rest
    }

    /// Ends those that have nothing and are meant, by their number and the end of their wait.
    pub(super) fn end(
        &mut self,
        is_meant: impl Fn(u64, Instant) -> bool,
        outcome: impl Fn() -> Result<Vec<T>>,
    ) {
        for (number, receive) in self.pending.iter_mut().filter(|(_, receive)| receive.outcome.is_none()) {
            if is_meant(*number, receive.until) {
                receive.end(outcome(), &mut self.woken);
            }
        }
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.returned.retain(&mut keep);
        for receive in self.pending.values_mut() {
            if let Some(Ok(messages)) = &mut receive.outcome
                && !messages.is_empty()
            {
                messages.retain(&mut keep);
                if messages.is_empty() {
                    receive.outcome = self.closed.map(CloseReason::outcome);
                }
            }
        }
    }

    pub(super) fn returned(&mut self) -> Vec<T> {
        std::mem::take(&mut self.returned)
    }

    pub(super) fn close(&mut self, reason: CloseReason) {
        if self.closed != Some(CloseReason::Handle) {
            self.closed = Some(reason);
        }
        self.end(|_, _| true, || reason.outcome());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }
}

impl<T> Pending<T> {
    fn demand(&self, round: u64, now: Instant) -> Demand {
        let (messages, until) = (self.max, self.until);
        Demand { round, messages, immediate: until <= now, patient: until > now, until }
    }

    fn end(&mut self, outcome: Result<Vec<T>>, woken: &mut Vec<Waker>) {
        self.outcome = Some(outcome);
        woken.extend(self.waker.take());
    }
}
