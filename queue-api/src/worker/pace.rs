//! When a message that found no turn of its handler is handed out again: at the pace at which the handler ends.

use std::time::Duration;

use tokio::time::Instant;

/// How long a handler that has not ended yet is taken to last. Too short costs one more release of each.
const FIRST: Duration = Duration::from_millis(2);
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(30);

/// One handler's pace. Messages are due twice as often as it ends: when it is faster than before, it is not idle for long.
pub(super) struct Pace {
    at_a_time: u32,
    mean: Duration,
    /// When one began or ended last.
    progress: Instant,
    /// When the message that was given back last is due.
    last_due: Instant,
}

impl Pace {
    pub(super) fn new(at_a_time: usize, now: Instant) -> Self {
        let at_a_time = u32::try_from(at_a_time).unwrap_or(u32::MAX).max(1);
        Self { at_a_time, mean: FIRST, progress: now, last_due: now }
    }

    pub(super) fn began(&mut self, now: Instant) {
        self.progress = now;
    }

    pub(super) fn ended(&mut self, lasted: Duration, now: Instant) {
        self.mean = self.mean / 2 + lasted / 2;
        self.progress = now;
    }

    /// For how long a message is given back: until after all that were given back before. While none ends, each wait is
    /// longer than the one before.
    pub(super) fn wait(&mut self, now: Instant) -> Duration {
        let length = self.mean.max(now.duration_since(self.progress));
        let step = (length / 2 / self.at_a_time).clamp(SHORTEST, LONGEST);
        self.last_due = (self.last_due.max(now) + step).min(now + LONGEST);
        self.last_due - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn messages_are_due_one_after_the_other_twice_as_often_as_the_handler_ends() {
        let now = Instant::now();
        let mut pace = Pace::new(2, now);
        (0..40).for_each(|_| pace.ended(400 * MS, now));
        let waits = [pace.wait(now), pace.wait(now), pace.wait(now)].map(|wait| wait.as_millis());
        assert!(waits.iter().zip([99, 199, 299]).all(|(wait, due)| wait.abs_diff(due) <= 3), "{waits:?}");
        let far = (0..10_000).map(|_| pace.wait(now)).max();
        assert_eq!(far, Some(LONGEST));
    }

    #[test]
    fn while_none_ends_the_waits_grow() {
        let mut now = Instant::now();
        let mut pace = Pace::new(1, now);
        pace.began(now);
        let until = now + Duration::from_secs(600);
        let mut releases = 0;
        while now < until {
            now += pace.wait(now);
            releases += 1;
        }
        assert!((20..60).contains(&releases), "{releases} in ten minutes");
    }

    #[test]
    fn no_number_is_too_large() {
        let now = Instant::now();
        let mut pace = Pace::new(usize::MAX, now);
        pace.ended(Duration::MAX, now);
        pace.ended(Duration::MAX, now);
        assert!((SHORTEST..=LONGEST).contains(&pace.wait(now)));
    }
}
