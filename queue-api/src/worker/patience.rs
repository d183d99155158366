//! How a worker or a requester waits for a broker that is away.

use std::time::Duration;

use crate::Backoff;

use super::execute::dice;

/// The wait after the `failures`-th failure in a row: 100 ms, 200 ms … up to 5 s, each shortened at random by up to
/// half, so that many workers do not come back as one.
pub(crate) fn patience(failures: u32) -> Duration {
    Backoff::new(Duration::from_millis(100), 2.0, Duration::from_secs(5))
        .and_then(|backoff| backoff.jitter(0.5))
        .expect("constants within what a backoff allows")
        .delay(failures, dice())
}
