//! What publishing needs beside the topology: dedup keys, and turns at queues that have a bound.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use polyqueue::{DedupStore, QueueName};

use crate::delay::wheel::Wheel;
use crate::topology::state::Topology;

/// How many of this handle's calls look at dedup keys at a time.
const TURNS: usize = 16;

/// Shared by all of a client's publishes.
pub(crate) struct Publishing {
    pub(crate) topology: Arc<Topology>,
    pub(crate) wheel: Arc<Wheel>,
    pub(crate) dedup: DedupTurns,
    pub(crate) locks: QueueLocks,
}

impl Publishing {
    pub(crate) fn new(
        topology: Arc<Topology>,
        wheel: Arc<Wheel>,
        store: Option<Arc<dyn DedupStore>>,
    ) -> Self {
        let dedup = DedupTurns { store, turns: Default::default() };
        Self { topology, wheel, dedup, locks: QueueLocks::default() }
    }
}

/// What a client needs for dedup keys.
pub(crate) struct DedupTurns {
    /// Where the user wants them kept instead.
    pub(crate) store: Option<Arc<dyn DedupStore>>,
    turns: [tokio::sync::Mutex<()>; TURNS],
}

impl DedupTurns {
    /// Whether they lie in a store that does not say when a key's message expires: then who lists the letters frees the keys.
    pub(crate) fn are_elsewhere(&self) -> bool {
        self.store.is_some()
    }

    /// The turn of those who look at this key.
    pub(crate) fn turn(&self, key: &str) -> &tokio::sync::Mutex<()> {
        let sum = key.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        &self.turns[sum % TURNS]
    }
}

/// Lets one of this handle's publishes at a time enter a queue that has a bound, so that they do not pass it together.
#[derive(Default)]
pub(crate) struct QueueLocks(Mutex<HashMap<QueueName, Arc<tokio::sync::Mutex<()>>>>);

impl QueueLocks {
    pub(crate) fn of(&self, queue: &QueueName) -> Arc<tokio::sync::Mutex<()>> {
        self.0.lock().entry(queue.clone()).or_default().clone()
    }
}
