//! What dead letters need beside publishing.

use std::sync::Arc;

use polyqueue::{QueueName, Result};

use crate::connection::browser::Browser;
use crate::dead::walk::Walks;
use crate::publish::state::Publishing;

/// Shared by all that touch dead letters.
pub(crate) struct DeadLetters {
    pub(crate) publishing: Arc<Publishing>,
    /// One of this handle's calls at a time drops what is too much.
    pub(crate) pruning: tokio::sync::Mutex<()>,
    /// Walks over many letters that wait for their next call.
    pub(crate) walks: Walks,
}

impl DeadLetters {
    pub(crate) fn new(publishing: Arc<Publishing>) -> Self {
        Self { publishing, pruning: tokio::sync::Mutex::default(), walks: Walks::default() }
    }
}

/// Begins to look at a queue's dead letters.
pub(crate) async fn browse(dead: &DeadLetters, queue: &QueueName) -> Result<Browser> {
    let topology = &dead.publishing.topology;
    Browser::begin(topology.handle.control(), queue, topology.names.dead(queue)).await
}
