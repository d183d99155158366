//! Rescheduling: a message that waits for its time is found by its id, and cancelled or given another.

use polyqueue::{MessageId, Reschedule};

use super::Line;
use crate::clock::At;
use crate::mutants::{Bug, planted};

impl Line {
    /// Every message with this id that waits for its time is cancelled, or given another; `false` when there is none. Looks
    /// at all that wait.
    pub(crate) fn reschedule(&mut self, id: &MessageId, to: Reschedule) -> bool {
        let found: Vec<(At, u64)> =
            self.delayed.iter().filter(|(_, item)| item.message.id() == id).map(|(key, _)| *key).collect();
        for key in &found {
            self.move_delayed(*key, to);
        }
        self.serve();
        !found.is_empty()
    }

    fn move_delayed(&mut self, key: (At, u64), to: Reschedule) {
        if planted(Bug::CancelKeeps) && to == Reschedule::Cancel {
            return;
        }
        let Some(item) = self.delayed.remove(&key) else { return };
        self.expiry.unwatch(&item);
        match to {
            Reschedule::Cancel => {
                self.free_key(&item.message);
                self.trash.push(item);
            }
            Reschedule::After(wait) => {
                let from = if planted(Bug::RescheduleAdds) { key.0 } else { self.now };
                self.ready_at(item, from.plus(wait));
            }
        }
    }
}
