//! The server's clock, as far as we know it.

use std::time::Duration;

use tokio::time::Instant;

/// A look at the server's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Before it was read.
    before: Instant,
    /// In ms, rounded up.
    time: u64,
}

impl Clock {
    /// It said `time`, in ms, some time after `before`.
    pub(crate) fn new(before: Instant, time: u64) -> Self {
        Self { before, time }
    }

    /// When it said this time, or will, at the earliest: no lease that was counted from there ends before one counted from here.
    /// Should it have been put forward meanwhile, it is now.
    pub(crate) fn earliest(&self, time: u64) -> Instant {
        let passed = Duration::from_millis(time.saturating_sub(self.time));
        let ago = Duration::from_millis(self.time.saturating_sub(time));
        let then = self.before.checked_add(passed).and_then(|then| then.checked_sub(ago));
        then.map_or_else(Instant::now, |then| then.min(Instant::now()))
    }

    /// What it says at an instant of ours at the latest, in ms, unless it is put forward meanwhile.
    pub(crate) fn latest(&self, at: Instant) -> u64 {
        let passed = at.saturating_duration_since(self.before).as_millis();
        self.time.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX / 2)).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_a_question_and_its_answer_is_on_the_safe_side() {
        let before = Instant::now();
        let clock = Clock::new(before, 1_000);
        assert_eq!(clock.earliest(900), before - Duration::from_millis(100), "it was pushed before we asked");
        assert_eq!(clock.earliest(1_000), before);
        assert!(clock.earliest(u64::MAX) <= Instant::now());
        assert_eq!(clock.latest(before + Duration::from_millis(50)), 1_051);
    }
}
