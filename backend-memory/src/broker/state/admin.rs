//! Counting, purging and deleting.

use polyqueue::{Purge, QueueStats};

use super::dedup_keys::DedupKeys;
use super::pending::WaitOutcome;
use super::queue_state::QueueState;
use crate::mutants::{Bug, planted};

/// How many messages are where; the counters are the handle's to fill in.
pub(crate) fn stats(queue: &QueueState) -> QueueStats {
    let wrong = if planted(Bug::DelayedAsReady) { queue.delayed.len() } else { 0 };
    let mut stats = QueueStats::default();
    stats.ready = (queue.ready.len() + wrong) as u64;
    stats.dead = queue.dead.len() as u64;
    stats.delayed = Some(queue.delayed.len() as u64);
    stats.in_flight = Some(queue.in_flight.len() as u64);
    stats.oldest = queue.ready.oldest().map(|since| queue.now.since(since));
    stats
}

/// Removes messages, answering how many; those in in flight are spared.
pub(crate) fn purge(queue: &mut QueueState, what: Purge) -> u64 {
    if what == Purge::Dead {
        let dead = queue.dead.len();
        queue.dead.clear();
        return dead as u64;
    }
    let before = queue.removed.len();
    queue.expiry.clear();
    queue.removed.extend(queue.ready.drain());
    if !planted(Bug::PurgeForgetsDelayed) {
        queue.removed.extend(std::mem::take(&mut queue.delayed).into_values());
    }
    queue.free_purged_keys(before);
    if planted(Bug::PurgeTakesInFlight) {
        queue.removed.extend(queue.in_flight.drain());
    }
    (queue.removed.len() - before) as u64
}

/// The end of the queue: nothing is left of it, and whoever waits is told.
pub(crate) fn delete(queue: &mut QueueState) {
    queue.deleted = true;
    purge(queue, Purge::Waiting);
    purge(queue, Purge::Dead);
    queue.removed.extend(queue.in_flight.drain());
    queue.keys.iter_mut().for_each(DedupKeys::clear);
    for waiter in queue.waiting.waiters() {
        queue.waiting.answer(waiter, WaitOutcome::Deleted);
    }
    queue.consumers.clear();
}
