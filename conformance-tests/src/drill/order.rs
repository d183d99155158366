//! What a drill is asked to do, and how it is watched.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What a drill is asked to do.
#[derive(Clone, Debug)]
pub struct Order {
    /// What decides each fault and each message.
    pub seed: u64,
    /// How long messages are published. Everything then gets some seconds to come to its end.
    pub lasts: Duration,
    /// So many clients publish.
    pub producers: usize,
    /// So many clients consume.
    pub consumers: usize,
    /// One kind of fault instead of all.
    pub only: Option<Only>,
}

impl Order {
    /// Eight producers, eight consumers, every kind of fault.
    pub fn new(seed: u64, lasts: Duration) -> Self {
        Self { seed, lasts, producers: 8, consumers: 8, only: None }
    }
}

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// Connections are cut after a random number of bytes.
    Cuts,
    /// Producers and consumers are killed: processes where the broker can be shared.
    Kills,
}

/// How far a drill is, for whoever waits; and the wish that it ends early.
#[derive(Debug, Default)]
pub struct Watch {
    stopped: AtomicBool,
    pub(super) faults: AtomicU64,
    pub(super) published: AtomicU64,
    pub(super) delivered: AtomicU64,
}

impl Watch {
    /// Ends it: nothing more happens to anybody, and what was published is judged.
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// Faults, confirmed publishes and hand-outs so far.
    pub fn so_far(&self) -> [u64; 3] {
        [&self.faults, &self.published, &self.delivered].map(|count| count.load(Relaxed))
    }
}
