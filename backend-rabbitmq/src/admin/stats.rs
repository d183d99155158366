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
    let ready = count(topology, queue, &topology.names.ready(queue)).await?;
    let dead = count(topology, queue, &topology.names.dead(queue)).await?;
    let counters = topology.handle.meter.of(queue).snapshot();
    Ok(QueueStats { ready, dead, counters, ..QueueStats::default() })
}
