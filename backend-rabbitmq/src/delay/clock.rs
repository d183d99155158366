//! The broker's clock, as this client knows it.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::delay::bounds::{Bounds, Seen};

/// Bounds that are so far apart are good enough to delay by, in microseconds.
const SHARP: i64 = 20_000;

/// How long it takes to know them so well, at most, where the broker answers at once.
pub(crate) const ENOUGH: Duration = Duration::from_millis(2_500);
/// How often it is looked whether anything is known.
const AGAIN: Duration = Duration::from_millis(50);

/// Where our clock begins.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// This instant on our clock, in microseconds.
pub(crate) fn local(instant: Instant) -> i64 {
    i64::try_from(instant.saturating_duration_since(*BEGIN).as_micros()).unwrap_or(i64::MAX)
}

/// What is known of the broker's clock, in milliseconds since 1970.
pub(crate) struct BrokerClock {
    bounds: Mutex<Option<Bounds>>,
    is_sharp: watch::Sender<bool>,
    /// The latest time that was stamped. Bounds that come closer must not put a later message before an earlier one.
    stamped: Mutex<i64>,
}

impl Default for BrokerClock {
    fn default() -> Self {
        let _ = local(Instant::now());
        Self { bounds: Mutex::default(), is_sharp: watch::Sender::new(false), stamped: Mutex::default() }
    }
}

impl BrokerClock {
    /// A probe has come back.
    pub(crate) fn saw(&self, seen: Seen) {
        let mut bounds = self.bounds.lock();
        let known = bounds.map_or_else(|| Bounds::of(seen), |known| known.with(seen));
        *bounds = Some(known);
        self.is_sharp.send_if_modified(|sharp| std::mem::replace(sharp, known.width() <= SHARP) != *sharp);
    }

    /// What is known.
    pub(crate) fn bounds(&self) -> Option<Bounds> {
        *self.bounds.lock()
    }

    /// Whether it is known well enough.
    pub(crate) fn is_sharp(&self) -> bool {
        *self.is_sharp.borrow()
    }

    /// Waits until it is, or for as long as that takes where the broker answers at once. What is known by then has to do: a time that is
    /// too late by what is not known.
    pub(crate) async fn known(&self) {
        let sharp = async {
            // The sender lives as long as this does.
            let _ = self.is_sharp.subscribe().wait_for(|sharp| *sharp).await;
        };
        if timeout(ENOUGH, sharp).await.is_err() {
            while self.bounds().is_none() {
                sleep(AGAIN).await;
            }
        }
    }

    /// The broker's time is at least this.
    pub(crate) fn earliest(&self) -> Option<i64> {
        Some(self.bounds()?.earliest(local(Instant::now())).div_euclid(1_000))
    }

    /// The broker's time is at most this.
    pub(crate) fn latest(&self) -> Option<i64> {
        Some(self.bounds()?.latest(local(Instant::now())).div_euclid(1_000) + 1)
    }

    /// How long it is until it is certain that this time has come.
    pub(crate) fn until(&self, time: i64) -> Option<Duration> {
        let when = self.bounds()?.when(time.saturating_mul(1_000));
        Some(Duration::from_micros(u64::try_from(when - local(Instant::now())).unwrap_or(0)))
    }

    /// When something is due that was delayed then, and never before what was delayed as long before it.
    pub(crate) fn due(&self, then: Instant, delay: Duration) -> Option<i64> {
        let now = self.bounds()?.latest(local(then)).div_euclid(1_000) + 1;
        let mut stamped = self.stamped.lock();
        // One that was set back is believed.
        if *stamped <= now || *stamped > now + 2 * SHARP / 1_000 {
            *stamped = now;
        }
        let delay = i64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
        Some(stamped.saturating_add(delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_sharp_when_an_edge_was_seen() {
        let clock = BrokerClock::default();
        clock.saw(Seen { sent: 0, came: 500, second: 9 });
        assert!(!clock.is_sharp() && clock.earliest().is_some());
        clock.saw(Seen { sent: 4_000, came: 5_000, second: 10 });
        assert!(clock.is_sharp());
    }

    #[test]
    fn later_messages_of_one_delay_are_not_due_before_earlier_ones() {
        let clock = BrokerClock::default();
        clock.saw(Seen { sent: 0, came: 500, second: 9 });
        clock.saw(Seen { sent: 985_000, came: 986_000, second: 9 });
        let (then, delay) = (Instant::now(), Duration::from_millis(100));
        let first = clock.due(then, delay).unwrap();
        clock.saw(Seen { sent: 992_000, came: 993_000, second: 9 });
        assert!(clock.due(then, delay).unwrap() >= first);
        let now = clock.latest().unwrap();
        assert!(first <= now + 120 && first >= clock.earliest().unwrap());
    }
}
