//! How a worker or a requester waits for a broker that is away.

use std::time::Duration;

use crate::backend::Jitter;

/// The wait after the `failures`-th failure in a row: 100 ms, 200 ms … up to 5 s, each shortened at random by up to
/// half, so that many workers do not come back as one.
pub(crate) fn retry_wait(jitter: &Jitter, failures: u32) -> Duration {
    const FIRST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(5);
    jitter.backoff(FIRST, MOST, failures.saturating_sub(1))
}
