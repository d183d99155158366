//! When a message's time to live ends, as far as a client can know, and what a copy of it has left.
//!
//! The broker itself counts for what was published straight to its queue. What came through the delay queues, or was filed again,
//! carries a time that is compared with this client's clock.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

/// A time to live that began before the message came to us.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiry {
    /// All of it.
    pub(crate) ttl: Duration,
    /// Its end, in milliseconds since 1970 by the clock of who published; a foreign client may not have said.
    pub(crate) at: Option<i64>,
    /// Whether the broker counted while it had the message.
    pub(crate) watched: bool,
    /// When it came to us.
    pub(crate) came: Instant,
}

impl Expiry {
    /// What is left of it by this client's clock.
    pub(crate) fn left(&self, now: DateTime<Utc>) -> Duration {
        let held = self.ttl.saturating_sub(self.came.elapsed());
        match self.at {
            Some(at) => {
                held.min(Duration::from_millis(u64::try_from(at - now.timestamp_millis()).unwrap_or(0)))
            }
            None => held,
        }
    }

    /// What is left for a copy, which the broker is to count. What the broker itself has counted until it came is alive, whatever this
    /// client's clock says.
    pub(crate) fn left_for_a_copy(&self, now: DateTime<Utc>) -> Duration {
        let left = self.left(now);
        if left.is_zero() && self.watched { self.ttl.saturating_sub(self.came.elapsed()) } else { left }
    }

    /// Whether it is over by this client's clock.
    pub(crate) fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.left(now).is_zero()
    }

    /// From when on a message that was not handed out may not be any more. Where the broker has counted until it came, this
    /// client's clock is not asked.
    pub(crate) fn stale_at(&self, now: DateTime<Utc>) -> Instant {
        let left = if self.watched { self.ttl } else { self.left(now) };
        self.came + left
    }

    /// What the next copy says: its end, in milliseconds since 1970.
    pub(crate) fn end(&self, now: DateTime<Utc>) -> i64 {
        let left = i64::try_from(self.left(now).as_millis()).unwrap_or(i64::MAX);
        self.at.unwrap_or_else(|| now.timestamp_millis().saturating_add(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn expiry(end: Option<i64>, watched: bool) -> Expiry {
        Expiry { ttl: 10 * SECOND, at: end.map(|end| end * 1000), watched, came: Instant::now() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_broker_counted_is_not_compared_with_a_clock() {
        let wrong_clock = at(1000);
        assert_eq!(expiry(Some(20), true).stale_at(wrong_clock), Instant::now() + 10 * SECOND);
        assert_eq!(expiry(Some(20), false).stale_at(wrong_clock), Instant::now());
        assert_eq!(expiry(Some(20), false).stale_at(at(17)), Instant::now() + 3 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_has_what_is_left() {
        let foreign = expiry(None, true);
        tokio::time::advance(4 * SECOND).await;
        assert_eq!((foreign.left(at(50)), foreign.end(at(50))), (6 * SECOND, 56_000));
        assert_eq!(expiry(Some(20), true).end(at(50)), 20_000);
        assert!(expiry(Some(20), true).is_over(at(20)) && !expiry(Some(20), true).is_over(at(19)));
    }
}
