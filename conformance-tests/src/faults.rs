//! What can happen to a broker's process, and who makes it happen.

use crate::{Outcome, async_trait};

/// What can happen to a broker's process. Every one lasts until [`Faults::heal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Killed, as by a power cut. Down until healed.
    Kill9,
    /// Stopped in order. Down until healed.
    StopGracefully,
    /// Stopped from running (SIGSTOP), connections open. Nobody answers until healed.
    Pause,
    /// All client connections closed by the broker, which stays up.
    CloseConnections,
}

/// Control over the broker's process.
#[async_trait]
pub trait Faults: Send + Sync {
    /// Makes it happen.
    async fn apply(&self, fault: Fault) -> Outcome;

    /// Makes the broker well again: started, running, ready for clients. The runner calls it after each case too.
    async fn heal(&self) -> Outcome;
}

/// Why there is no control over the broker's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoFaults {
    /// There is nothing to control, for this reason: the cases are not applicable.
    NotApplicable(String),
    /// The harness does not offer it: the cases are skipped, which fails the run unless allowed.
    Missing,
}
