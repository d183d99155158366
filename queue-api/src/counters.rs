//! What one handle has done so far, counted the same way by every backend.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::RwLock;
use serde::Serialize;

use crate::{QueueName, Settled, Verdict};

/// What one handle has done with one queue since the handle was opened. Numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counters {
    /// Publishes that answered Ok, duplicates among them.
    pub published: u64,
    /// Acks that took effect.
    pub acked: u64,
    /// Retries that took effect and were not the last.
    pub retried: u64,
    /// Releases that took effect.
    pub released: u64,
    /// Verdicts that made a dead letter.
    pub died: u64,
    /// Publishes of which nothing was stored, for their dedup key was there.
    pub duplicates: u64,
    /// Publishes that this queue had no room for.
    pub refused: u64,
    /// Messages that became dead letters, `overflow`, to make room for publishes of this handle.
    pub overflowed: u64,
    /// Dead letters that calls of this handle dropped by the queue's [retention](crate::Retention).
    pub dropped: u64,
    /// Time from hand-out to verdict, summed over acked, retried and died.
    pub busy: Duration,
}

impl Counters {
    /// The mean time from hand-out to verdict; `None` before the first.
    pub fn mean_busy(&self) -> Option<Duration> {
        let handled = self.acked + self.retried + self.died;
        let nanos = self.busy.as_nanos().checked_div(handled.into())?;
        Some(Duration::from_nanos(nanos as u64))
    }
}

/// Counts for one handle, a [`QueueMeter`] for each queue. For backends.
#[derive(Debug, Default)]
pub struct Meter(RwLock<HashMap<QueueName, Arc<QueueMeter>>>);

impl Meter {
    /// The counts of one queue; made at the first question.
    pub fn of(&self, queue: &QueueName) -> Arc<QueueMeter> {
        if let Some(meter) = self.0.read().get(queue) {
            return meter.clone();
        }
        self.0.write().entry(queue.clone()).or_default().clone()
    }
}

/// Counts for one queue of one handle. For backends.
#[derive(Debug, Default)]
pub struct QueueMeter {
    published: AtomicU64,
    acked: AtomicU64,
    retried: AtomicU64,
    released: AtomicU64,
    died: AtomicU64,
    duplicates: AtomicU64,
    refused: AtomicU64,
    overflowed: AtomicU64,
    dropped: AtomicU64,
    busy_nanos: AtomicU64,
}

impl QueueMeter {
    /// `messages` more publishes answered Ok.
    pub fn published(&self, messages: u64) {
        self.published.fetch_add(messages, Relaxed);
    }

    /// `messages` more publishes were duplicates.
    pub fn duplicates(&self, messages: u64) {
        self.duplicates.fetch_add(messages, Relaxed);
    }

    /// `messages` more publishes found no room.
    pub fn refused(&self, messages: u64) {
        self.refused.fetch_add(messages, Relaxed);
    }

    /// `messages` more made room for others.
    pub fn overflowed(&self, messages: u64) {
        self.overflowed.fetch_add(messages, Relaxed);
    }

    /// `letters` more dead letters were dropped.
    pub fn dropped(&self, letters: u64) {
        self.dropped.fetch_add(letters, Relaxed);
    }

    /// A verdict was answered, `busy` after the hand-out. Answers without an effect are not counted.
    pub fn settled(&self, verdict: &Verdict, answer: Settled, busy: Duration) {
        let counter = match (answer, verdict) {
            (Settled::AlreadySettled | Settled::LeaseLost, _) => return,
            (Settled::Died, _) | (Settled::Applied, Verdict::DeadLetter { .. }) => &self.died,
            (Settled::Applied, Verdict::Ack) => &self.acked,
            (Settled::Applied, Verdict::Retry { .. }) => &self.retried,
            (Settled::Applied, Verdict::Release { .. }) => {
                self.released.fetch_add(1, Relaxed);
                return;
            }
        };
        counter.fetch_add(1, Relaxed);
        self.busy_nanos.fetch_add(busy.as_nanos() as u64, Relaxed);
    }

    /// The numbers now.
    pub fn snapshot(&self) -> Counters {
        Counters {
            published: self.published.load(Relaxed),
            acked: self.acked.load(Relaxed),
            retried: self.retried.load(Relaxed),
            released: self.released.load(Relaxed),
            died: self.died.load(Relaxed),
            duplicates: self.duplicates.load(Relaxed),
            refused: self.refused.load(Relaxed),
            overflowed: self.overflowed.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            busy: Duration::from_nanos(self.busy_nanos.load(Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_effects_are_counted() {
        let meter = QueueMeter::default();
        let second = Duration::from_secs(1);
        meter.settled(&Verdict::Ack, Settled::Applied, second);
        meter.settled(&Verdict::Ack, Settled::AlreadySettled, second);
        meter.settled(&Verdict::Ack, Settled::LeaseLost, second);
        meter.settled(&Verdict::retry(second, "boom"), Settled::Died, 3 * second);
        meter.settled(&Verdict::Release { after: second }, Settled::Applied, second);
        let counters = meter.snapshot();
        assert_eq!((counters.acked, counters.retried, counters.released, counters.died), (1, 0, 1, 1));
        assert_eq!(counters.mean_busy(), Some(2 * second));
    }
}
