//! Rescheduling: a message that waits for its time is found by its id, and cancelled or given another.

use polyqueue::{MessageId, Reschedule};

use super::consume;
use super::delayed::{Waiting, number_of};
use super::queue_state::QueueState;
use crate::mutants::{Bug, planted};

/// Every message with an id that waited for its time when this began is cancelled, or given another.
#[derive(Debug)]
pub(crate) struct Rescheduling<'a> {
    id: &'a MessageId,
    to: Reschedule,
    /// What began to wait since is another's.
    before: Option<u64>,
    next: Waiting,
    pub(crate) found: bool,
}

impl<'a> Rescheduling<'a> {
    pub(crate) fn new(id: &'a MessageId, to: Reschedule) -> Self {
        Self { id, to, before: None, next: Waiting::default(), found: false }
    }
}

/// Goes on as far as there are steps; whether it is done.
pub(crate) fn reschedule(queue: &mut QueueState, work: &mut Rescheduling<'_>) -> bool {
    let before = *work.before.get_or_insert(queue.numbers + 1);
    while let Some(key) = queue.delayed.next_like(work.id, work.next) {
        work.next = (key.0, key.1.saturating_add(1));
        queue.steps.take();
        if number_of(key.1) < before && queue.delayed.has_id(key, work.id) {
            move_delayed(queue, key, work.to);
            work.found = true;
        }
        if !queue.steps.are_left() {
            return false;
        }
    }
    consume::serve(queue);
    true
}

fn move_delayed(queue: &mut QueueState, key: Waiting, to: Reschedule) {
    if planted(Bug::CancelKeeps) && to == Reschedule::Cancel {
        return;
    }
    let Some(item) = queue.delayed.remove(key) else { return };
    queue.expiry.unwatch(&item);
    match to {
        Reschedule::Cancel => {
            queue.free_key(&item.message);
            queue.removed.messages.push(item);
        }
        Reschedule::After(wait) => {
            let from = if planted(Bug::RescheduleAdds) { key.0 } else { queue.now };
            queue.ready_at(item, from.plus(wait));
        }
    }
}
