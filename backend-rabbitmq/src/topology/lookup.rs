//! What is known of a queue: the catalogue first, the broker where that is not enough.

use crate::connection::fault::if_there;
use crate::topology::follow::{read_if_readable, up_to_date};
use crate::topology::records::CatalogueEntry;
use crate::topology::state::Topology;
use polyqueue::{Error, QueueName, QueueSpec, Result};
use std::sync::Arc;

/// A queue, as the catalogue had it a moment ago or, where that cannot be read, as it was known before; one that is there and not
/// listed is nothing but its name.
///
/// # Errors
/// `NotFound` for a queue that is neither listed nor there.
pub(crate) async fn entry(topology: &Arc<Topology>, queue: &QueueName) -> Result<CatalogueEntry> {
    if !topology.catalogue.is_live() || topology.catalogue.entry(queue).is_none() {
        read_if_readable(topology).await;
    }
    if let Some(entry) = topology.catalogue.entry(queue) {
        return Ok(entry);
    }
    count(topology, queue, &topology.names.ready(queue)).await?;
    topology.catalogue.note_unlisted(queue);
    let address = topology.adopted(queue).unwrap_or_else(|| topology.names.first_address(queue).into());
    Ok(CatalogueEntry { address, spec: Arc::new(QueueSpec::new(queue.clone())) })
}

/// How many messages are ready in a broker's queue.
///
/// # Errors
/// `NotFound` when it is not there.
pub(crate) async fn count(topology: &Topology, queue: &QueueName, object: &str) -> Result<u64> {
    let found = if_there(topology.handle.control().messages(object).await)?;
    found.ok_or_else(|| Error::not_found(queue.clone()))
}

/// All queues of the namespace, by name.
pub(crate) async fn queues(topology: &Arc<Topology>) -> Result<Vec<QueueSpec>> {
    up_to_date(topology).await?;
    Ok(topology.catalogue.queues())
}
