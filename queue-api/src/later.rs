//! Instants that no wait, however long, carries too far.

use std::time::Duration;

use tokio::time::Instant;

/// What is further away than any clock of ours runs.
pub(crate) const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// `by` after `from`, however long that is: beyond thirty years it is thirty years.
pub fn later(from: Instant, by: Duration) -> Instant {
    from.checked_add(by.min(FAR)).unwrap_or(from)
}
