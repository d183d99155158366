//! A little chance, so that many clients do not act in the same instant.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Random numbers: good enough to spread clients, too weak for secrets.
#[derive(Debug)]
pub struct Jitter(AtomicU64);

impl Default for Jitter {
    /// One that nobody foresees.
    fn default() -> Self {
        Self::seeded(RandomState::new().build_hasher().finish())
    }
}

impl Jitter {
    /// The same numbers for the same seed.
    pub const fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// A number in [0, 1).
    pub fn fraction(&self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// `base` and up to `extra` more.
    pub fn between(&self, base: Duration, extra: Duration) -> Duration {
        let micros = u64::try_from(extra.as_micros()).unwrap_or(u64::MAX);
        base.saturating_add(Duration::from_micros(self.below(micros)))
    }

    /// The wait before the n-th attempt, from 0: half to all of `first` · 2ⁿ, at most `most`.
    pub fn backoff(&self, first: Duration, most: Duration, attempt: u32) -> Duration {
        let whole = first.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(most);
        self.between(whole / 2, whole / 2)
    }

    /// SplitMix64: every step of the state gives another number.
    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(STEP, Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(20);
    const MOST: Duration = Duration::from_secs(1);

    #[test]
    fn a_seed_says_it_all() {
        let throw = |seed| {
            let jitter = Jitter::seeded(seed);
            [(); 8].map(|()| jitter.below(1_000_000))
        };
        assert_eq!(throw(7), throw(7));
        assert_ne!(throw(7), throw(8));
        assert_eq!(Jitter::seeded(0).next(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn waits_grow_to_the_most() {
        let jitter = Jitter::default();
        for attempt in 0..100 {
            let wait = jitter.backoff(FIRST, MOST, attempt);
            assert!(wait >= FIRST / 2 && wait <= MOST, "{wait:?}");
        }
        assert!(jitter.backoff(FIRST, MOST, 50) >= MOST / 2);
        assert!(jitter.backoff(FIRST, Duration::MAX, u32::MAX) > MOST);
    }

    #[test]
    fn numbers_fill_their_range() {
        let jitter = Jitter::seeded(3);
        let throws: Vec<f64> = (0..10_000).map(|_| jitter.fraction()).collect();
        assert!(throws.iter().all(|throw| (0.0..1.0).contains(throw)));
        assert!((throws.iter().sum::<f64>() / 10_000.0 - 0.5).abs() < 0.02);
        assert_eq!(jitter.below(0), 0);
        assert_eq!(jitter.between(MOST, Duration::ZERO), MOST);
        assert_eq!(jitter.between(Duration::MAX, Duration::MAX), Duration::MAX);
    }
}
