//! The broker's clock: tokio's, counted from when the broker began.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

/// A moment, in nanoseconds since the broker began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At(pub(crate) u64);

impl At {
    /// Later than anything.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    pub(crate) fn plus(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(nanos(wait)))
    }

    #[cfg(polyqueue_mutants)]
    pub(crate) fn minus(self, wait: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(wait)))
    }

    /// How long ago `earlier` was; zero when it is not earlier.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

fn nanos(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)
}

/// Wall time is derived from tokio's clock, so that under a paused clock nobody dies before his publication.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    began: Instant,
    began_wall: i64,
    /// By so many milliseconds it is wrong, on purpose.
    shifted: Arc<AtomicI64>,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), began_wall: Utc::now().timestamp_millis(), shifted: Arc::default() }
    }

    pub(crate) fn now(&self) -> At {
        At(nanos(Instant::now().saturating_duration_since(self.began)))
    }

    pub(crate) fn instant(&self, at: At) -> Instant {
        self.began + Duration::from_nanos(at.0)
    }

    /// Wall time in whole milliseconds.
    pub(crate) fn wall(&self, at: At) -> DateTime<Utc> {
        let since = i64::try_from(at.0 / 1_000_000).unwrap_or(i64::MAX);
        whole_millis(self.began_wall.saturating_add(since).saturating_add(self.shifted.load(Relaxed)))
    }

    /// Shifts wall time, for all who share this clock; what waits is not touched.
    pub(crate) fn shift(&self, millis: i64) {
        self.shifted.store(millis, Relaxed);
    }
}

/// Wall time from milliseconds since 1970; the last moment that can be written where it is beyond.
pub(crate) fn whole_millis(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wall_time_moves_with_the_paused_clock() {
        let clock = Clock::start();
        let before = clock.wall(clock.now());
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(clock.wall(clock.now()) - before, chrono::TimeDelta::hours(1));
        assert_eq!(clock.instant(clock.now()), Instant::now());
    }
}
