//! A little chance, so that many clients do not act in the same instant.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// A random number below `bound`.
pub(crate) fn below(bound: u64) -> u64 {
    RandomState::new().build_hasher().finish() % bound.max(1)
}

/// `base` and up to `extra` more.
pub(crate) fn between(base: Duration, extra: Duration) -> Duration {
    base + Duration::from_micros(below(extra.as_micros() as u64))
}

/// The wait before the n-th attempt, from 0: half to all of 20 ms · 2ⁿ, at most 1 s.
pub(crate) fn backoff(attempt: u32) -> Duration {
    let whole = Duration::from_millis(20 << attempt.min(6)).min(Duration::from_secs(1));
    between(whole / 2, whole / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_second() {
        for attempt in 0..100 {
            let wait = backoff(attempt);
            assert!(wait >= Duration::from_millis(10) && wait <= Duration::from_secs(1), "{wait:?}");
        }
        assert!(backoff(50) >= Duration::from_millis(500));
        assert_eq!(below(0), 0);
    }
}
