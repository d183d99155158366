//! What is set for a worker as a whole, and what it is unless set.

use std::time::Duration;

use crate::RetryPolicy;
use crate::backend::Jitter;

use super::execute::Versions;

/// What is set for a worker as a whole.
pub(super) struct Settings {
    pub(super) consumer: String,
    pub(super) concurrency: usize,
    pub(super) prefetch: Option<usize>,
    pub(super) lease: Duration,
    pub(super) timeout: Option<Duration>,
    pub(super) retry: RetryPolicy,
    pub(super) stop_deadline: Duration,
    pub(super) stall_limit: Option<Duration>,
    pub(super) versions: Versions,
    pub(super) seed: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            consumer: "polyqueue".into(),
            concurrency: 16,
            prefetch: None,
            lease: Duration::from_secs(30),
            timeout: None,
            retry: RetryPolicy::default(),
            stop_deadline: Duration::from_secs(30),
            stall_limit: None,
            versions: Versions::default(),
            seed: None,
        }
    }
}

impl Settings {
    pub(super) fn jitter(&self) -> Jitter {
        self.seed.map_or_else(Jitter::default, Jitter::seeded)
    }
}
