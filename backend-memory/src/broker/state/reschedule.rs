//! Rescheduling: a message that waits for its time is found by its id, and cancelled or given another.

use polyqueue::{MessageId, Reschedule};

use super::consume;
use super::queue_state::QueueState;
use crate::broker::clock::At;
use crate::mutants::{Bug, planted};

/// Every message with this id that waits for its time is cancelled, or given another; `false` when there is none. Looks
/// at all that wait.
pub(crate) fn reschedule(queue: &mut QueueState, id: &MessageId, to: Reschedule) -> bool {
    let found: Vec<(At, u64)> =
        queue.delayed.iter().filter(|(_, item)| item.message.id() == id).map(|(key, _)| *key).collect();
    for key in &found {
        move_delayed(queue, *key, to);
    }
    consume::serve(queue);
    !found.is_empty()
}

fn move_delayed(queue: &mut QueueState, key: (At, u64), to: Reschedule) {
    if planted(Bug::CancelKeeps) && to == Reschedule::Cancel {
        return;
    }
    let Some(item) = queue.delayed.remove(&key) else { return };
    queue.expiry.unwatch(&item);
    match to {
        Reschedule::Cancel => {
            queue.free_key(&item.message);
            queue.removed.push(item);
        }
        Reschedule::After(wait) => {
            let from = if planted(Bug::RescheduleAdds) { key.0 } else { queue.now };
            queue.ready_at(item, from.plus(wait));
        }
    }
}
