//! What publishing needs beside the topology: dedup keys, and turns at queues that have a bound.

use std::sync::Arc;

use polyqueue::{DedupStore, QueueName};
use tokio::sync::Semaphore;

use crate::delay::wheel::Wheel;
use crate::publish::turns::Turns;
use crate::topology::state::Topology;

/// How many of this handle's calls look at dedup keys at a time.
const LOOKS: usize = 16;

/// Shared by all of a client's publishes.
pub(crate) struct Publishing {
    pub(crate) topology: Arc<Topology>,
    pub(crate) wheel: Arc<Wheel>,
    pub(crate) dedup: DedupTurns,
    /// One of this handle's publishes at a time enters a queue that has a bound, so that they do not pass it together.
    pub(crate) doors: Turns<QueueName>,
}

impl Publishing {
    pub(crate) fn new(
        topology: Arc<Topology>,
        wheel: Arc<Wheel>,
        store: Option<Arc<dyn DedupStore>>,
    ) -> Self {
        let dedup = DedupTurns { store, turns: Turns::default(), looks: Arc::new(Semaphore::new(LOOKS)) };
        Self { topology, wheel, dedup, doors: Turns::default() }
    }
}

/// What a client needs for dedup keys.
pub(crate) struct DedupTurns {
    /// Where the user wants them kept instead.
    pub(crate) store: Option<Arc<dyn DedupStore>>,
    /// Of those who look at a marker, by its name.
    pub(crate) turns: Turns<String>,
    /// Each look takes a channel; none is kept while another client has the marker.
    pub(crate) looks: Arc<Semaphore>,
}

impl DedupTurns {
    /// Whether they lie in a store that does not say when a key's message expires: then who lists the letters frees the keys.
    pub(crate) fn are_elsewhere(&self) -> bool {
        self.store.is_some()
    }
}
