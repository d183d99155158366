//! Deleting a queue with all that is in it or on its way to it.

use crate::connection::change::Change;
use crate::topology::create_catalogue::append;
use crate::topology::dedup_queues::delete_keys;
use crate::topology::lookup::up_to_date;
use crate::topology::records::Record;
use crate::topology::state::Topology;
use polyqueue::{Error, QueueName, Result};
use std::sync::Arc;

/// Deletes a queue with all that is in it or on its way to it.
pub(crate) async fn delete(topology: &Arc<Topology>, queue: &QueueName) -> Result<()> {
    topology.catalogue.forget_lost(queue);
    up_to_date(topology).await?;
    let Some(entry) = topology.catalogue.entry(queue) else {
        return Err(Error::not_found(queue.clone()));
    };
    let address = entry.address.clone();
    // The address first: from here on nothing that is delayed is this queue's.
    append(topology, &Record::Delete { queue: queue.to_string(), address: address.clone() }).await?;
    topology.catalogue.delete_here(address);
    topology.catalogue.refresh(topology.handle.control()).await?;
    topology.handle.publisher().await?.forget(&topology.names.ready(queue));
    let objects = [topology.names.ready(queue), topology.names.dead(queue)];
    let gone = objects.map(|name| Change::NoQueue { name });
    topology.handle.control().change(gone.into()).await?;
    delete_keys(topology, &entry).await
}
