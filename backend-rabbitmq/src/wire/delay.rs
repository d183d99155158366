//! Delays as decimal digits: one hop through a waiting queue for every digit that is not zero.

use std::time::Duration;

/// The smallest step of a delay, in milliseconds.
const GRAIN_MS: u128 = 10;
/// Ten digits reach past 365 days.
pub(crate) const LEVELS: usize = 10;
/// Levels that every queue may need at once: delays below 100 s.
pub(crate) const LOW_LEVELS: usize = 4;
/// Where the delay queues end.
pub(crate) const DUE: &str = "polyqueue.due";
/// Where a delayed message goes whose queue is not there.
pub(crate) const UNROUTABLE: &str = "polyqueue.unrouted";

/// The way of one delayed message: the exchange where it enters, and its routing key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DelayPath {
    pub(crate) exchange: String,
    pub(crate) key: String,
}

/// One waiting queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DelayQueue {
    pub(crate) level: usize,
    pub(crate) digit: u8,
}

impl DelayQueue {
    /// Its name on the broker.
    pub(crate) fn queue(self) -> String {
        format!("polyqueue.delay.{}.{}", self.level, self.digit)
    }
}

fn digits(delay: Duration) -> Vec<u8> {
    let grains = delay.as_nanos().div_ceil(GRAIN_MS * 1_000_000);
    (0..LEVELS as u32).map(|level| (grains / 10_u128.pow(level) % 10) as u8).collect()
}

/// The waiting queues above the low levels that a delay goes through.
pub(crate) fn high_steps(delay: Duration) -> impl Iterator<Item = DelayQueue> {
    let steps = digits(delay).into_iter().enumerate().map(|(level, digit)| DelayQueue { level, digit });
    steps.filter(|step| step.level >= LOW_LEVELS && step.digit > 0)
}

/// The way that takes `delay`, rounded up to 10 ms, to the queue at `address`. `None` for no delay.
pub(crate) fn delay_path(delay: Duration, address: &str) -> Option<DelayPath> {
    let digits = digits(delay);
    let level = digits.iter().rposition(|digit| *digit > 0)?;
    let mut key: String = digits.iter().rev().map(|digit| format!("{digit}.")).collect();
    key.push_str(address);
    Some(DelayPath { exchange: exchange(level), key })
}

/// The address at the end of a routing key.
pub(crate) fn address_of(key: &str) -> Option<&str> {
    key.rsplit('.').next().filter(|_| key.split('.').count() == LEVELS + 1)
}

/// The pattern by which `polyqueue.due` knows a queue.
pub(crate) fn due_pattern(address: &str) -> String {
    "*.".repeat(LEVELS) + address
}

pub(crate) fn exchange(level: usize) -> String {
    format!("polyqueue.delay.{level}")
}

/// Where messages go from a level.
pub(crate) fn below(level: usize) -> String {
    level.checked_sub(1).map_or_else(|| DUE.to_owned(), exchange)
}

/// The pattern of keys that have `digit` at `level`.
pub(crate) fn pattern(level: usize, digit: u8) -> String {
    format!("{}{digit}.#", "*.".repeat(LEVELS - 1 - level))
}

/// How long a waiting queue holds a message. The millisecond more makes up for the broker's clock, which is cut to whole
/// milliseconds when a message comes in.
pub(crate) fn wait_ms(level: usize, digit: u8) -> i64 {
    i64::from(digit) * GRAIN_MS as i64 * 10_i64.pow(level as u32) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(ms: u64) -> Option<(usize, String)> {
        delay_path(Duration::from_millis(ms), "a")
            .map(|route| (route.exchange.rsplit('.').next().unwrap().parse().unwrap(), route.key))
    }

    #[test]
    fn no_delay_has_no_way() {
        assert_eq!(way(0), None);
    }

    #[test]
    fn delays_are_rounded_up_to_ten_milliseconds() {
        assert_eq!(way(1), Some((0, "0.0.0.0.0.0.0.0.0.1.a".into())));
        assert_eq!(way(10), way(1));
        assert_eq!(way(11), Some((0, "0.0.0.0.0.0.0.0.0.2.a".into())));
        assert_eq!(delay_path(Duration::from_nanos(1), "a"), delay_path(Duration::from_millis(10), "a"));
    }

    #[test]
    fn a_message_enters_at_its_highest_digit() {
        assert_eq!(way(1000), Some((2, "0.0.0.0.0.0.0.1.0.0.a".into())));
        assert_eq!(way(99_990), Some((3, "0.0.0.0.0.0.9.9.9.9.a".into())));
        assert_eq!(way(100_000), Some((LOW_LEVELS, "0.0.0.0.0.1.0.0.0.0.a".into())));
        let year = delay_path(Duration::from_secs(365 * 24 * 60 * 60), "a").unwrap();
        assert_eq!(
            (year.exchange.as_str(), year.key.as_str()),
            ("polyqueue.delay.9", "3.1.5.3.6.0.0.0.0.0.a")
        );
    }

    #[test]
    fn the_waits_of_all_digits_add_up_to_the_delay() {
        for ms in [10_u64, 250, 1230, 59_990, 3_600_000, 31_536_000_000] {
            let (_, key) = way(ms).unwrap();
            let digits: Vec<u8> = key.split('.').take(LEVELS).map(|digit| digit.parse().unwrap()).collect();
            let sum: i64 = digits
                .iter()
                .rev()
                .enumerate()
                .filter(|(_, digit)| **digit > 0)
                .map(|(level, digit)| wait_ms(level, *digit) - 1)
                .sum();
            assert_eq!(sum, ms as i64);
        }
    }

    #[test]
    fn a_far_delay_needs_a_queue_for_each_high_digit_that_is_not_zero() {
        let queues = |secs| high_steps(Duration::from_secs(secs)).map(DelayQueue::queue).collect::<Vec<_>>();
        assert_eq!(queues(99), Vec::<String>::new());
        assert_eq!(queues(100), ["polyqueue.delay.4.1"]);
        assert_eq!(
            queues(30 * 24 * 60 * 60),
            ["polyqueue.delay.5.2", "polyqueue.delay.6.9", "polyqueue.delay.7.5", "polyqueue.delay.8.2"]
        );
    }

    #[test]
    fn patterns_stand_at_the_place_of_their_digit() {
        assert_eq!(pattern(9, 3), "3.#");
        assert_eq!(pattern(0, 7), "*.*.*.*.*.*.*.*.*.7.#");
        assert_eq!(due_pattern("a").split('.').count(), LEVELS + 1);
    }

    #[test]
    fn the_address_is_found_again() {
        let route = delay_path(Duration::from_secs(3), "4f2a").unwrap();
        assert_eq!(address_of(&route.key), Some("4f2a"));
        assert_eq!(address_of("somebody.elses.key"), None);
    }
}
