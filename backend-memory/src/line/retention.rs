//! Retention: dead letters that are too many or too old are dropped, the oldest first, and counted.

use super::Line;
use crate::mutants::{Bug, planted};

impl Line {
    /// After a death: no more letters than the queue keeps.
    pub(super) fn drop_surplus_letters(&mut self) {
        while let Some(max) = self.retention.max_len
            && self.dead.len() as u64 > max
        {
            if planted(Bug::RetentionDropsNewest) {
                self.dead.drop_newest();
            } else {
                self.dead.drop_oldest();
            }
            self.tally.dropped += u64::from(!planted(Bug::RetentionUncounted));
        }
    }

    /// With the time: no letters older than the queue keeps.
    pub(super) fn drop_old_letters(&mut self) {
        while let (Some(age), Some(died)) = (self.retention.max_age, self.dead.oldest())
            && died.plus(age) <= self.now
        {
            self.dead.drop_oldest();
            self.tally.dropped += u64::from(!planted(Bug::RetentionUncounted));
        }
    }
}
