//! What a worker did, told when it ends.

/// What happened to the messages that a [`Worker`](crate::Worker) was handed.
///
/// `received` = `acked` + `retried` + `died` + `released` + `lost` + `unsettled`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Hand-outs.
    pub received: u64,
    /// Hand-outs for which a handler was started.
    pub handled: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Failed, to be handed out again.
    pub retried: u64,
    /// Became dead letters by our verdict.
    pub died: u64,
    /// Given back without counting an attempt: snoozed, of a kind without a handler, beyond the concurrency of its
    /// handler, or not finished when the worker stopped.
    pub released: u64,
    /// Their lease was lost before a verdict took effect: somebody else is handed them.
    pub lost: u64,
    /// Their verdict could not be delivered: they come back at the end of their lease at the latest.
    pub unsettled: u64,
}

impl Report {
    pub(super) fn add(&mut self, other: Self) {
        self.received += other.received;
        self.handled += other.handled;
        self.acked += other.acked;
        self.retried += other.retried;
        self.died += other.died;
        self.released += other.released;
        self.lost += other.lost;
        self.unsettled += other.unsettled;
    }
}
