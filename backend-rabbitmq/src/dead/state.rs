//! What dead letters need beside publishing.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use polyqueue::{QueueName, Result};

use crate::connection::browser::Browser;
use crate::dead::walk::Walks;
use crate::publish::state::Publishing;

/// Shared by all that touch dead letters.
pub(crate) struct DeadLetters {
    pub(crate) publishing: Arc<Publishing>,
    /// One of this handle's calls at a time drops what is too much.
    pub(crate) pruning: tokio::sync::Mutex<()>,
    /// Queues whose letters are looked through after a death, or will be; whether one has died since that began.
    pruned: Mutex<HashMap<QueueName, bool>>,
    /// Walks over many letters that wait for their next call.
    pub(crate) walks: Walks,
}

impl DeadLetters {
    pub(crate) fn new(publishing: Arc<Publishing>) -> Self {
        let (pruning, pruned, walks) = Default::default();
        Self { publishing, pruning, pruned, walks }
    }

    /// Whether this death has to look through the letters: otherwise another does, and looks again.
    pub(crate) fn begins_to_prune(&self, queue: &QueueName) -> bool {
        let mut pruned = self.pruned.lock();
        let begins = !pruned.contains_key(queue);
        pruned.insert(queue.clone(), !begins);
        begins
    }

    /// Whether one has died since it was begun. Otherwise it has ended.
    pub(crate) fn prunes_again(&self, queue: &QueueName) -> bool {
        let mut pruned = self.pruned.lock();
        match pruned.get_mut(queue) {
            Some(again) if *again => {
                *again = false;
                true
            }
            _ => {
                pruned.remove(queue);
                false
            }
        }
    }
}

/// Begins to look at a queue's dead letters.
pub(crate) async fn browse(dead: &DeadLetters, queue: &QueueName) -> Result<Browser> {
    let topology = &dead.publishing.topology;
    Browser::begin(topology.handle.control(), queue, topology.names.dead(queue)).await
}
