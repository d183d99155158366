//! A broker that has lost everything: queues that a handle of this client uses are declared again as they were.

use std::sync::Arc;

use polyqueue::{Event, QueueName, Result};

use crate::topology::declare::declare;
use crate::topology::lookup::{count, up_to_date};
use crate::topology::state::Topology;

/// A queue is not there. Declares it again if the broker has lost everything since it was known. Answers whether it is there now.
pub(crate) async fn revive(topology: &Arc<Topology>, queue: &QueueName) -> bool {
    let catalogue = &topology.catalogue;
    if catalogue.entry(queue).is_none() && catalogue.lost(queue).is_none() {
        return false;
    }
    let _one_at_a_time = topology.reviving.lock().await;
    match try_to_revive(topology, queue).await {
        Ok(there) => there,
        Err(error) => {
            tracing::debug!(name: "rabbitmq.not_redeclared", %queue, %error, "what the broker has lost could not be declared again for now");
            false
        }
    }
}

/// A topic reaches nobody. The same for all queues that were bound. Answers whether one is there now that was not.
pub(crate) async fn revive_bound(topology: &Arc<Topology>) -> bool {
    let mut revived = false;
    for queue in topology.catalogue.lost_bound() {
        revived |= revive(topology, &queue).await;
    }
    revived
}

async fn try_to_revive(topology: &Arc<Topology>, queue: &QueueName) -> Result<bool> {
    up_to_date(topology).await?;
    let catalogue = &topology.catalogue;
    if catalogue.entry(queue).is_some() {
        // Somebody has declared it meanwhile. One that was deleted behind our back is not brought back.
        catalogue.forget_lost(queue);
        return Ok(count(topology, queue, &topology.names.ready(queue)).await.is_ok());
    }
    let Some(spec) = catalogue.lost(queue) else { return Ok(false) };
    declare(topology, &spec).await?;
    catalogue.forget_lost(queue);
    topology.handle.events.send(Event::Redeclared { queue: queue.clone() });
    Ok(true)
}
