//! What is counted of a queue.

use std::sync::Arc;

use polyqueue::{QueueName, QueueStats, Result};

use crate::dead::retention::retain;
use crate::dead::state::DeadLetters;
use crate::topology::lookup::{count, entry};

/// Asks the broker how many messages are ready and dead.
pub(crate) async fn stats(dead: &Arc<DeadLetters>, queue: &QueueName) -> Result<QueueStats> {
    let topology = &dead.publishing.topology;
    retain(dead, &entry(topology, queue).await?).await?;
    let ready = count(topology, queue, topology.names.ready(queue));
    let letters = count(topology, queue, topology.names.dead(queue));
    // Both to their end: the client must not meet a channel's refusal after it was dropped.
    let (ready, dead) = futures_util::future::join(ready, letters).await;
    let counters = topology.handle.meter.of(queue).snapshot();
    Ok(QueueStats { ready: ready?, dead: dead?, counters, ..QueueStats::default() })
}
