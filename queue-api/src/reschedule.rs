//! What becomes of a message that waits.

use std::time::Duration;

/// What [`Queue::reschedule`](crate::Queue::reschedule) does. Exhaustive: a new way must break backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reschedule {
    /// Removes it for good: it is neither handed out nor a dead letter.
    Cancel,
    /// Makes it ready after this time from now, at most 365 days.
    After(Duration),
}
