//! What receives that wait want, all together.

use tokio::time::Instant;

/// What the receives want that have nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The newest of them; what comes later has a greater number.
    pub round: u64,
    /// How many messages, all together.
    pub messages: usize,
    /// Whether one of them wants to know what is ready now: it does not wait, or its wait is over.
    pub immediate: bool,
    /// Whether one of them waits for what is not there yet.
    pub patient: bool,
    /// When the first of them stops waiting.
    pub until: Instant,
}

impl Demand {
    /// The two together.
    pub(super) fn and(self, newer: Self) -> Self {
        Self {
            round: newer.round,
            messages: self.messages.saturating_add(newer.messages),
            immediate: self.immediate || newer.immediate,
            patient: self.patient || newer.patient,
            until: self.until.min(newer.until),
        }
    }
}
