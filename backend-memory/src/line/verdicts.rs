//! Verdicts and extensions: fenced by the token of the hand-out.

use std::time::Duration;

use polyqueue::{DeadReason, Message, Parts, Priority, Settled, Verdict, cut_error};

use super::Line;
use super::flight::Held;
use super::hand_out::is_used_up;
use crate::clock::At;
use crate::mutants::{Bug, planted};
use crate::receipt::{ReaderId, Stub};

impl Line {
    /// Applies a verdict of a consumer; also says how long the message was in its hands.
    pub(crate) fn settle(&mut self, reader: ReaderId, stub: Stub, verdict: &Verdict) -> (Settled, Duration) {
        let foreign = stub.reader != reader && !planted(Bug::ForeignReceipt);
        if foreign || self.is_deleted() {
            return (Settled::LeaseLost, Duration::ZERO);
        }
        let held = self.flight.release(stub.token);
        #[cfg(polyqueue_mutants)]
        let held = held.or_else(|| self.seize(stub));
        let Some(held) = held else {
            return (self.flight.missing(stub, self.now), Duration::ZERO);
        };
        if planted(Bug::AckKeeps) && *verdict == Verdict::Ack {
            self.flight.hold(stub.token, held);
            return (Settled::Applied, Duration::ZERO);
        }
        let busy = self.now.since(held.since);
        self.flight.remember(stub.token, &held);
        self.vacate(held.reader);
        let answer = self.apply(held, verdict);
        self.serve();
        (answer, busy)
    }

    fn apply(&mut self, held: Held, verdict: &Verdict) -> Settled {
        match verdict {
            Verdict::Ack => {
                self.free_acked_key(&held.item.message);
                self.trash.push(held.item);
            }
            Verdict::Retry { after, error } => return self.retry(held, *after, error),
            Verdict::Release { after } => self.release(held, *after),
            Verdict::DeadLetter { reason, error } => {
                self.bury(*held.item, (*reason).into(), error.clone(), self.now);
                return Settled::Died;
            }
        }
        Settled::Applied
    }

    fn retry(&mut self, held: Held, after: Duration, error: &str) -> Settled {
        let Held { mut item, max, since, .. } = held;
        if is_used_up(item.attempts, max) {
            self.bury(*item, DeadReason::MaxAttempts, error.to_owned(), self.now);
            return Settled::Died;
        }
        if item.is_expired(self.now) {
            self.bury_expired(*item, self.now);
            return Settled::Died;
        }
        item.message = failed(item.message, error);
        item.room.refit(&item.message, "");
        if planted(Bug::RetryFree) {
            item.attempts -= 1;
        }
        if planted(Bug::RetryFreesKey) {
            self.free_key(&item.message);
        }
        if planted(Bug::RetryRenewsTtl) {
            item.live_from(self.now);
        }
        let after = if planted(Bug::BackoffIgnored) { Duration::ZERO } else { after };
        let from = if planted(Bug::RetryFromHandOut) { since } else { self.now };
        self.ready_at(item, from.plus(after));
        Settled::Applied
    }

    fn release(&mut self, held: Held, after: Duration) {
        let mut item = held.item;
        if !planted(Bug::ReleaseBurns) {
            item.attempts -= 1;
        }
        if item.is_expired(self.now) {
            return self.bury_expired(*item, self.now);
        }
        self.ready_at(item, self.now.plus(after));
    }

    /// A new full lease from now; its end, or `None` when the message is not theirs any more.
    pub(crate) fn extend(&mut self, reader: ReaderId, stub: Stub) -> Option<At> {
        if stub.reader != reader && !planted(Bug::ForeignReceipt) {
            return None;
        }
        #[cfg(polyqueue_mutants)]
        self.revive(stub);
        let until = self.now.plus(self.readers.get(&reader)?.lease());
        self.flight.extend(stub.token, until).then_some(until)
    }

    /// Takes a message away from whoever has it now, by a receipt that is no longer good.
    #[cfg(polyqueue_mutants)]
    fn seize(&mut self, stub: Stub) -> Option<Held> {
        if planted(Bug::NoFencing) {
            let token = self.flight.holding(|item| item.past.contains(&stub.token))?;
            return self.flight.release(token);
        }
        let late = planted(Bug::LateVerdict) && stub.until <= self.now;
        late.then(|| self.pick_up(stub)).flatten()
    }

    #[cfg(polyqueue_mutants)]
    fn revive(&mut self, stub: Stub) {
        if planted(Bug::LateExtend)
            && stub.until <= self.now
            && let Some(held) = self.pick_up(stub)
        {
            self.flight.hold(stub.token, held);
        }
    }

    #[cfg(polyqueue_mutants)]
    fn pick_up(&mut self, stub: Stub) -> Option<Held> {
        let item = self.ready.snatch(|item| item.past.last() == Some(&stub.token))?;
        let max = item.message.max_attempts().unwrap_or(polyqueue::DEFAULT_MAX_ATTEMPTS);
        Some(Held::new(item, stub.reader, max, self.now, self.now))
    }
}

/// The message as it goes back after a failure.
fn failed(message: Message, error: &str) -> Message {
    let parts = message.into_parts();
    Message::from(Parts {
        retries: parts.retries.saturating_add(1),
        last_error: Some(cut_error(error.to_owned())),
        priority: if planted(Bug::PriorityLost) { Priority::DEFAULT } else { parts.priority },
        ..parts
    })
}
