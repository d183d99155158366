//! What is counted of a queue.

use std::sync::Arc;

use polyqueue::{QueueName, QueueStats, Result};

use crate::dead::retention::retain;
use crate::dead::state::DeadLetters;
use crate::topology::lookup::{count, entry};

/// Asks the broker how many messages are ready and dead.
pub(crate) async fn stats(dead: &Arc<DeadLetters>, queue: &QueueName) -> Result<QueueStats> {
    let topology = &dead.publishing.topology;
    let entry = entry(topology, queue).await?;
    // Who is on a walk over the letters keeps them from a second one, and has looked already at what is too old.
    let in_hand = dead.walks.in_hand(queue).await?;
    if in_hand == 0 {
        retain(dead, &entry).await?;
    }
    let mut stats = QueueStats::default();
    stats.ready = count(topology, queue, &topology.names.ready(queue)).await?;
    stats.dead = count(topology, queue, &topology.names.dead(queue)).await? + in_hand;
    stats.counters = topology.handle.meter.of(queue).snapshot();
    Ok(stats)
}
