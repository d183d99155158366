//! How many bytes a second the way to us carries: what a claim may ask for.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Before anything was measured.
const FIRST: u64 = 1024 * 1024;
/// However slow it is, and however fast.
const LEAST: u64 = 64 * 1024;
const MOST: u64 = 8 * 1024 * 1024;
/// So little is over before the way shows how fast it is.
const MEASURABLE: u64 = 256 * 1024;
/// The longest that what is asked for may take, where it can be foreseen.
const LONGEST: Duration = Duration::from_secs(2);

/// The bytes a second that have come lately, and how many share them.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    rate: AtomicU64,
    sharing: AtomicUsize,
}

/// One of those that share the way.
pub(crate) struct Sharer<'a>(&'a Pace);

impl Drop for Sharer<'_> {
    fn drop(&mut self) {
        self.0.sharing.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pace {
    /// Begins to wait for much.
    pub(crate) fn share(&self) -> Sharer<'_> {
        self.sharing.fetch_add(1, Ordering::Relaxed);
        Sharer(self)
    }

    /// So many bytes came within `time`.
    pub(crate) fn measured(&self, bytes: u64, time: Duration) {
        if bytes < MEASURABLE {
            return;
        }
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        let now = (bytes.saturating_mul(1_000_000) / micros).max(1);
        let before = self.rate.load(Ordering::Relaxed);
        let rate = if before == 0 { now } else { before / 2 + now / 2 };
        self.rate.store(rate.max(1), Ordering::Relaxed);
    }

    /// What was asked for did not come.
    pub(crate) fn failed(&self) {
        let before = self.rate.load(Ordering::Relaxed);
        self.rate.store(if before == 0 { LEAST } else { (before / 2).max(1) }, Ordering::Relaxed);
    }

    /// How many bytes may be asked for so that they come well within `time`.
    pub(crate) fn budget(&self, time: Duration) -> u64 {
        let sharing = self.sharing.load(Ordering::Relaxed) as u64 + 1;
        let span = u64::try_from((time / 4).min(LONGEST).as_millis()).unwrap_or(u64::MAX);
        let all = match self.rate.load(Ordering::Relaxed) {
            0 => FIRST,
            rate => rate.saturating_mul(span) / 1000,
        };
        (all / sharing).clamp(LEAST, MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_knows_nothing_asks_for_little_and_who_shares_for_less() {
        let pace = Pace::default();
        assert_eq!(pace.budget(10 * SECOND), FIRST);
        let other = pace.share();
        assert_eq!(pace.budget(10 * SECOND), FIRST / 2);
        drop(other);
        assert_eq!(pace.budget(10 * SECOND), FIRST);
    }

    #[test]
    fn it_is_what_came_and_never_nothing() {
        let pace = Pace::default();
        pace.measured(1, SECOND);
        assert_eq!(pace.budget(10 * SECOND), FIRST, "one byte shows nothing");
        pace.measured(500_000, SECOND);
        assert_eq!(pace.budget(10 * SECOND), 1_000_000);
        assert_eq!(pace.budget(SECOND), 125_000);
        for _ in 0..100 {
            pace.failed();
        }
        assert_eq!(pace.budget(10 * SECOND), LEAST);
        for _ in 0..100 {
            pace.measured(1 << 40, SECOND);
        }
        assert_eq!(pace.budget(10 * SECOND), MOST);
    }
}
