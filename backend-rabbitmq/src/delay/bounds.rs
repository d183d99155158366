//! Between which bounds the broker's clock is ahead of ours, by the seconds that it writes on probes.

/// Our clock and the broker's may drift apart by one part in so many.
const DRIFT: i64 = 10_000;
const SECOND: i64 = 1_000_000;

/// A probe that came back: when it left and came, by our clock, and the second that the broker saw meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) sent: i64,
    pub(crate) came: i64,
    pub(crate) second: i64,
}

/// What is to be added to our clock to have the broker's: at least, at most. All in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    lower: i64,
    upper: i64,
    /// When that was so, by our clock.
    at: i64,
}

impl Bounds {
    /// What one probe says.
    pub(crate) fn of(seen: Seen) -> Self {
        let begin = seen.second * SECOND;
        Self { lower: begin - seen.came, upper: begin + SECOND - seen.sent, at: seen.came }
    }

    /// What is known with one probe more. One that contradicts what was known is right: the broker's clock was set.
    pub(crate) fn with(self, seen: Seen) -> Self {
        let (now, then) = (Self::of(seen), self.at(seen.came));
        let both = Self {
            lower: now.lower.max(then.lower),
            upper: now.upper.min(then.upper),
            at: seen.came.max(self.at),
        };
        if both.lower <= both.upper { both } else { now }
    }

    /// The same, later.
    fn at(self, local: i64) -> Self {
        let slack = (local - self.at).max(0) / DRIFT;
        Self { lower: self.lower - slack, upper: self.upper + slack, at: self.at.max(local) }
    }

    /// How far they are apart.
    pub(crate) fn width(self) -> i64 {
        self.upper - self.lower
    }

    /// The broker's time is at least this.
    pub(crate) fn earliest(self, local: i64) -> i64 {
        local + self.at(local).lower
    }

    /// The broker's time is at most this.
    pub(crate) fn latest(self, local: i64) -> i64 {
        local + self.at(local).upper
    }

    /// When it is certain that the broker's time is at least this.
    pub(crate) fn when(self, time: i64) -> i64 {
        let near = time - self.lower;
        near + (near - self.at).max(0) / (DRIFT - 1) + 1
    }

    /// Between which times of our clock the broker's next second begins, from now on.
    pub(crate) fn edge(self, local: i64) -> (i64, i64) {
        let next = (self.latest(local) / SECOND + 1) * SECOND;
        (next - self.upper, next - self.lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broker whose clock is ahead by so much, and probes that take `way` each way.
    fn seen(ahead: i64, sent: i64, way: i64) -> Seen {
        Seen { sent, came: sent + 2 * way, second: (sent + way + ahead).div_euclid(SECOND) }
    }

    #[test]
    fn an_edge_between_two_seconds_bounds_the_clock() {
        for ahead in [0, 300 * SECOND + 123_456, 120 * SECOND - 7] {
            let mut bounds = Bounds::of(seen(ahead, 0, 400));
            assert!(bounds.width() >= SECOND);
            for nth in 1..300 {
                bounds = bounds.with(seen(ahead, nth * 5_000, 400));
            }
            assert!(bounds.width() <= 6_500, "{bounds:?}");
            let now = 1_500_000;
            assert!(bounds.earliest(now) <= now + ahead && now + ahead <= bounds.latest(now), "{bounds:?}");
        }
    }

    #[test]
    fn a_clock_that_was_set_is_believed() {
        let before = Bounds::of(seen(0, 0, 100)).with(seen(0, 999_950, 100));
        let after = before.with(seen(300 * SECOND, 2_000_000, 100));
        assert_eq!(after, Bounds::of(seen(300 * SECOND, 2_000_000, 100)));
    }

    #[test]
    fn what_was_known_long_ago_is_known_less() {
        let bounds = Bounds { lower: 0, upper: 2_000, at: 0 };
        let later = 60 * SECOND;
        assert_eq!(bounds.latest(later) - bounds.earliest(later), 2_000 + 12_000);
        let due = later + 5_000;
        assert!(bounds.earliest(bounds.when(due)) >= due);
        assert!(bounds.earliest(bounds.when(due) - 10) < due);
    }

    #[test]
    fn the_next_edge_is_where_the_second_turns() {
        let bounds = Bounds { lower: 300, upper: 900, at: 0 };
        let (from, to) = bounds.edge(10);
        assert_eq!((from, to), (SECOND - 900, SECOND - 300));
    }
}
