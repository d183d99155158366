//! What "late" is: later than its bound, while what was done beside it was not slow.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::series::Series;

/// How much slower than one undelayed trip something may be that is due by the clock: a trip explains a lateness of up to so many
/// times its own length. Beside a busy core most of what is due is late by less than one trip of the same second.
const STEPS: u32 = 4;
/// How often the lag of a runtime is looked at.
pub(crate) const LAG_SAMPLED: Duration = Duration::from_millis(10);
/// A machine that was slow just before has not caught up yet.
const SAME_TIME: Duration = Duration::from_secs(1);

/// What a lateness is compared with.
#[derive(Clone, Debug)]
pub(crate) struct Controls {
    /// Undelayed trips through the same broker, all the time; none where time is virtual.
    pub(crate) trips: Option<Arc<Series>>,
    /// How late the runtime of the case itself wakes what sleeps.
    pub(crate) lag: Arc<Series>,
}

/// How slow the machine was at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slowness {
    trip: Duration,
    lag: Duration,
}

impl Controls {
    /// These trips, and the lag of a runtime of its own.
    pub(crate) fn beside(trips: &Arc<Series>) -> Self {
        Self { trips: Some(trips.clone()), ..Self::none() }
    }

    /// No trips, for whoever judges nothing or has a clock that cannot be slow.
    pub(crate) fn none() -> Self {
        Self { trips: None, lag: Arc::new(Series::new(LAG_SAMPLED)) }
    }

    /// How slow it was between these two, and in the second before the later one.
    pub(crate) fn slowness(&self, due: Instant, seen: Instant) -> Slowness {
        let from = seen.checked_sub(SAME_TIME).map_or(due, |before| before.min(due));
        Slowness {
            trip: self.trips.as_ref().map(|trips| trips.worst(from, seen)).unwrap_or_default(),
            lag: self.lag.worst(from, seen),
        }
    }
}

impl Slowness {
    /// Whether something that is usually in time may come so late by it.
    pub(crate) fn explains(self, late: Duration) -> bool {
        self.allowance() >= late
    }

    /// How late something that is usually in time may come by it.
    pub(crate) fn allowance(self) -> Duration {
        self.trip.max(self.lag) * STEPS
    }
}

impl fmt::Display for Slowness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a control beside it took up to {:?}, the runtime's own lag was {:?}", self.trip, self.lag)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_slow_control_explains_what_is_as_slow_and_no_more() {
        let trips = Arc::new(Series::new(Duration::ZERO));
        let controls = Controls::beside(&trips);
        trips.begin();
        advance(30 * MS).await;
        trips.end();
        let seen = Instant::now();
        let slowness = controls.slowness(seen, seen);
        assert!(slowness.explains(120 * MS) && !slowness.explains(121 * MS), "{slowness}");
        advance(SAME_TIME + MS).await;
        let later = Instant::now();
        assert!(!controls.slowness(later, later).explains(MS));
        assert!(controls.slowness(seen, later).explains(120 * MS), "it was slow while something was due");
    }
}
