//! Dead letters are listed, redriven and discarded by id.

use std::sync::Arc;

use polyqueue::DeadId;

use super::consume;
use super::dead_letters::{Listing, Record};
use super::queue_state::QueueState;
use super::stored::Stored;
use crate::mutants::{Bug, planted};

/// Goes on with a listing as far as there are steps; whether it is done.
pub(crate) fn read_on(queue: &mut QueueState, listing: &mut Listing<'_>) -> bool {
    let looked = queue.dead.read_on(listing, queue.steps.left());
    (0..looked).for_each(|_| queue.steps.take());
    listing.is_full()
}

/// Makes a dead letter ready again, its time to live as long as ever; `false` when it is not there.
pub(crate) fn redrive(queue: &mut QueueState, id: &DeadId) -> bool {
    queue.steps.take();
    let Some((number, record)) = queue.dead.take(id) else { return false };
    keep_letter(queue, number, &record);
    let mut item = record.item;
    item.earlier = item.all_attempts();
    item.redriven = item.redriven.saturating_add(1);
    if !planted(Bug::RedriveKeepsAttempts) {
        (item.attempts, item.allowed) = (0, 0);
    }
    if planted(Bug::RedriveLosesHeaders) {
        Arc::make_mut(&mut item.message).headers_mut().clear();
    }
    #[cfg(polyqueue_mutants)]
    item.past.clear();
    item.live_from(queue.now);
    item.room.refit(&item.message);
    queue.make_ready(item, queue.now);
    consume::serve(queue);
    true
}

/// Only a bug keeps it.
fn keep_letter(queue: &mut QueueState, number: u64, record: &Record) {
    let Record { item, reason, error, .. } = record;
    if planted(Bug::RedriveKeepsLetter)
        && item.readable
        && let Ok(room) = item.room.another(&item.message)
    {
        let mut twin = Stored::new(item.message.clone(), room);
        (twin.attempts, twin.earlier, twin.redriven) = (item.attempts, item.earlier, item.redriven);
        twin.holder.clone_from(&item.holder);
        let record = Record { item: twin, reason: *reason, error: error.clone(), died: queue.now };
        queue.dead.insert(number, record);
    }
}

/// Removes a dead letter for good; `false` when it is not there.
pub(crate) fn discard(queue: &mut QueueState, id: &DeadId) -> bool {
    queue.steps.take();
    queue.dead.take(id).is_some()
}
