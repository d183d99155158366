//! Counting, purging and deleting.

use polyqueue::QueueStats;

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

/// Removes all that waits, answering how many; those in flight are spared. What they leave behind is let go of by and by.
pub(crate) fn purge_waiting(queue: &mut QueueState) -> u64 {
    let mut removed = queue.ready.len();
    queue.removed.indexes.push(Box::new(std::mem::take(&mut queue.expiry)));
    queue.purged.add(queue.ready.drain());
    if !planted(Bug::PurgeForgetsDelayed) {
        removed += queue.delayed.len();
        let (delayed, index) = queue.delayed.drain();
        queue.purged.add(delayed);
        queue.removed.indexes.push(Box::new(index));
    }
    if planted(Bug::PurgeTakesInFlight) {
        removed += queue.in_flight.len();
        purge_in_flight(queue);
    }
    removed as u64
}

fn purge_in_flight(queue: &mut QueueState) {
    let (held, index) = queue.in_flight.drain();
    queue.purged.add(held);
    queue.removed.indexes.push(Box::new(index));
}

/// A purge of the dead letters that there were when it began.
#[derive(Debug, Default)]
pub(crate) struct DeadPurge {
    before: Option<u64>,
    pub(crate) removed: u64,
}

/// Goes on with a purge as far as there are steps; whether it is done.
pub(crate) fn purge_dead(queue: &mut QueueState, purge: &mut DeadPurge) -> bool {
    let before = *purge.before.get_or_insert(queue.numbers + 1);
    while queue.dead.remove_first(before) {
        purge.removed += 1;
        queue.steps.take();
        if !queue.steps.are_left() {
            return false;
        }
    }
    true
}

/// The end of the queue: nothing is left of it, and whoever waits is told.
pub(crate) fn delete(queue: &mut QueueState) {
    queue.deleted = true;
    purge_waiting(queue);
    purge_in_flight(queue);
    queue.removed.indexes.push(Box::new(std::mem::take(&mut queue.consumers)));
}
