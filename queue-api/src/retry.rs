//! How long to wait after a failure: pure functions, the dice are an argument.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::subscription::DEFAULT_MAX_ATTEMPTS;
use crate::{Error, Failure, Refusal, Result, Verdict};

/// How long to wait after the n-th failure: first · factor^(n−1), never above a maximum.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    immediate: u32,
    first: Duration,
    factor: f64,
    max: Duration,
    jitter: f64,
}

impl Backoff {
    /// Waits of `first`, `first · factor`, `first · factor²` …, capped at `max`, without jitter.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a factor that is not a number of at least 1, or `max` below `first` or above 365 days.
    pub fn new(first: Duration, factor: f64, max: Duration) -> Result<Self> {
        if !(factor.is_finite() && factor >= 1.0) {
            return Err(Error::invalid(
                "backoff factor",
                format!("{factor} given, allowed are numbers of at least 1"),
            ));
        }
        let year = crate::Limits::default().delay;
        if max < first || max > year {
            let allowed = format!("{max:?} given, allowed are {first:?} (the first wait) to 365 days");
            return Err(Error::invalid("backoff maximum", allowed));
        }
        Ok(Self { immediate: 0, first, factor, max, jitter: 0.0 })
    }

    /// The same with `failures` that wait nothing before the first wait.
    #[must_use]
    pub fn immediate_first(mut self, failures: u32) -> Self {
        self.immediate = failures;
        self
    }

    /// The same with waits shortened at random by up to this share: 0 is none, 1 is full jitter.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless it is within 0 to 1.
    pub fn jitter(mut self, share: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::invalid("backoff jitter", format!("{share} given, allowed are 0 to 1")));
        }
        self.jitter = share;
        Ok(self)
    }

    /// The wait after the `failures`-th failure in a row, from 1. `dice` is a random number in [0, 1); what is below counts as
    /// 0, what is above as 1, and what is no number as 0.
    pub fn delay(&self, failures: u32, dice: f64) -> Duration {
        let Some(exponent) = failures.checked_sub(self.immediate.saturating_add(1)) else {
            return Duration::ZERO;
        };
        // Or 0 times infinity, which is no number.
        if self.first.is_zero() {
            return Duration::ZERO;
        }
        let dice = if dice.is_nan() { 0.0 } else { dice.clamp(0.0, 1.0) };
        let exponent = i32::try_from(exponent).unwrap_or(i32::MAX);
        let max = self.max.as_secs_f64();
        let wait = (self.first.as_secs_f64() * self.factor.powi(exponent)).min(max);
        Duration::from_secs_f64(wait * (1.0 - self.jitter * dice))
    }
}

impl Default for Backoff {
    /// 1 s, 2 s, 4 s … up to 30 s, without jitter.
    fn default() -> Self {
        Self {
            immediate: 0,
            first: Duration::from_secs(1),
            factor: 2.0,
            max: Duration::from_secs(30),
            jitter: 0.0,
        }
    }
}

/// How often and when a failed message is tried again.
///
/// ```
/// use std::time::Duration;
/// use polyqueue::{Backoff, RetryPolicy};
///
/// // Up to 6 attempts, with waits of 2 s, 6 s, 18 s, 54 s and 60 s, each shortened at random by up to a tenth.
/// let backoff = Backoff::new(Duration::from_secs(2), 3.0, Duration::from_secs(60))?.jitter(0.1)?;
/// let patient = RetryPolicy::new(6, backoff)?; // to be given to `Worker::retry`
/// assert_eq!(patient.backoff().delay(3, 0.0), Duration::from_secs(18));
/// assert_eq!(RetryPolicy::default().max_attempts().get(), 4);
/// # Ok::<_, polyqueue::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    max_attempts: NonZeroU32,
    backoff: Backoff,
}

impl RetryPolicy {
    /// A policy of your own.
    ///
    /// # Errors
    /// [`Error::Invalid`] for 0 attempts.
    pub fn new(max_attempts: u32, backoff: Backoff) -> Result<Self> {
        let max_attempts = NonZeroU32::new(max_attempts)
            .ok_or_else(|| Error::invalid("max attempts", "0 given, allowed are 1 or more"))?;
        Ok(Self { max_attempts, backoff })
    }

    /// 4 attempts; the first retry at once, then after 1 s and 2 s.
    pub fn immediate_first() -> Self {
        Self { max_attempts: DEFAULT_MAX_ATTEMPTS, backoff: Backoff::default().immediate_first(1) }
    }

    /// After how many attempts a message dies, unless it says so itself.
    pub fn max_attempts(&self) -> NonZeroU32 {
        self.max_attempts
    }

    /// The waits.
    pub fn backoff(&self) -> &Backoff {
        &self.backoff
    }

    /// What becomes of a message whose `attempt` (from 1) ended in `failure`. A failure that may be retried is always a
    /// retry, also at the last attempt: the backend, which knows the message's own maximum, dead-letters it.
    pub fn verdict(&self, attempt: u32, failure: Failure, dice: f64) -> Verdict {
        match failure {
            Failure::Retry { error, after } => {
                Verdict::Retry { after: after.unwrap_or_else(|| self.backoff.delay(attempt, dice)), error }
            }
            Failure::Fatal { error } => Verdict::DeadLetter { reason: Refusal::Rejected, error },
            Failure::Undecodable { error } => Verdict::DeadLetter { reason: Refusal::Undecodable, error },
            Failure::Snooze(after) => Verdict::Release { after },
        }
    }
}

impl Default for RetryPolicy {
    /// 4 attempts, waits of 1 s, 2 s, 4 s.
    fn default() -> Self {
        Self { max_attempts: DEFAULT_MAX_ATTEMPTS, backoff: Backoff::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(backoff: &Backoff) -> Vec<u64> {
        (1..=8).map(|failures| backoff.delay(failures, 0.0).as_secs()).collect()
    }

    #[test]
    fn the_presets_wait_as_documented() {
        assert_eq!(waits(RetryPolicy::default().backoff()), [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(waits(RetryPolicy::immediate_first().backoff()), [0, 1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn nothing_overflows() {
        let backoff = Backoff::new(Duration::from_secs(1), 1e300, Duration::from_secs(60)).unwrap();
        assert_eq!(backoff.delay(u32::MAX, 0.0), Duration::from_secs(60));
        assert_eq!(backoff.delay(0, 0.0), Duration::ZERO);
        assert_eq!(backoff.immediate_first(u32::MAX - 1).delay(u32::MAX, 0.0), Duration::from_secs(1));
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

        #[test]
        fn every_delay_is_a_time_up_to_the_maximum(
            factor in proptest::num::f64::ANY,
            dice in proptest::num::f64::ANY,
            share in proptest::num::f64::ANY,
            (first, max) in (0..400_u64 * 86_400, 0..400_u64 * 86_400),
            failures in proptest::prelude::any::<u32>(),
        ) {
            let (first, max) = (Duration::from_secs(first / 2), Duration::from_secs(max));
            for factor in [factor, 1.0, 1e300, f64::MAX] {
                for first in [first, Duration::ZERO] {
                    let Ok(backoff) = Backoff::new(first, factor, max) else { continue };
                    let jittery = backoff.clone().jitter(share).unwrap_or(backoff);
                    for failures in [failures, failures % 5] {
                        let wait = jittery.delay(failures, dice);
                        assert!(wait <= max && (!first.is_zero() || wait.is_zero()), "{jittery:?}: {wait:?}");
                        let policy = RetryPolicy::new(4, jittery.clone()).unwrap();
                        policy.verdict(failures, Failure::from("x"), dice);
                    }
                }
            }
        }
    }

    #[test]
    fn dice_that_are_no_number_shorten_nothing() {
        let backoff = Backoff::default().jitter(1.0).unwrap();
        assert_eq!(backoff.delay(1, f64::NAN), Duration::from_secs(1));
        assert_eq!(backoff.delay(1, f64::INFINITY), Duration::ZERO);
        assert_eq!(backoff.delay(1, f64::NEG_INFINITY), Duration::from_secs(1));
    }

    #[test]
    fn a_first_wait_of_nothing_stays_nothing() {
        let backoff = Backoff::new(Duration::ZERO, 1e300, Duration::from_secs(365 * 86_400)).unwrap();
        assert!((0..9).all(|failures| backoff.delay(failures, 0.0).is_zero()));
    }

    #[test]
    fn bad_numbers_are_refused() {
        let second = Duration::from_secs(1);
        for factor in [f64::NAN, f64::INFINITY, -1.0, 0.5] {
            assert!(Backoff::new(second, factor, second).is_err());
        }
        assert!(Backoff::new(second, 2.0, Duration::ZERO).is_err());
        assert!(Backoff::default().jitter(1.1).is_err());
        assert!(Backoff::default().jitter(f64::NAN).is_err());
        assert!(RetryPolicy::new(0, Backoff::default()).is_err());
    }
}
