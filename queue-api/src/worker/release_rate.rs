//! A bound on how many messages that found no turn one queue's worker gives back.

use std::time::Duration;

use tokio::time::Instant;

/// One a millisecond.
const EACH: Duration = Duration::from_millis(1);
/// As many at once as that allows in this time.
const BURST: Duration = Duration::from_millis(100);

/// At most 1,000 a second, and up to 100 at once: beyond that nothing is fetched for a while.
pub(super) struct ReleaseRate {
    used_until: Instant,
}

impl ReleaseRate {
    pub(super) fn new(now: Instant) -> Self {
        Self { used_until: now }
    }

    pub(super) fn released(&mut self, now: Instant) {
        self.used_until = self.used_until.max(now) + EACH;
    }

    /// Until when nothing is to be fetched, if so.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        (self.used_until > now + BURST).then(|| self.used_until - BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_a_thousand_a_second_in_chunks_of_sixteen() {
        let start = Instant::now();
        let (mut now, mut rate, mut released) = (start, ReleaseRate::new(start), 0);
        while now < start + Duration::from_secs(10) {
            (0..16).for_each(|_| rate.released(now));
            released += 16;
            now = rate.paused_until(now).unwrap_or(now);
        }
        assert!((10_000..=10_116).contains(&released), "{released}");
    }
}
