//! Deleting a queue with all that is in it or on its way to it.

use crate::connection::fault::is_missing;
use crate::connection::link::Session;
use crate::connection::queries::fence;
use crate::topology::create_catalogue::append;
use crate::topology::dedup_queues::delete_keys;
use crate::topology::lookup::up_to_date;
use crate::topology::records::{CatalogueEntry, Record};
use crate::topology::state::Topology;
use crate::wire::delay::{DUE, due_pattern};
use lapin::options::{QueueDeleteOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use polyqueue::{Error, QueueName, Result};
use std::sync::Arc;

/// Deletes a queue with all that is in it or on its way to it.
pub(crate) async fn delete(topology: &Arc<Topology>, queue: &QueueName) -> Result<()> {
    let session = up_to_date(topology).await?;
    let Some(entry) = topology.catalogue.entry(queue) else {
        return Err(Error::not_found(queue.clone()));
    };
    let address = entry.address.clone();
    // The address first: from here on nothing that is delayed is this queue's.
    append(topology, &Record::Delete { queue: queue.to_string(), address: address.clone() }).await?;
    topology.catalogue.delete_here(address);
    topology.catalogue.refresh(&session).await?;
    topology.handle.publisher().await?.forget(&topology.names.ready(queue));
    detach(topology, &session, queue, &entry).await?;
    let channel = session.channel().await?;
    for object in [topology.names.ready(queue), topology.names.dead(queue)] {
        let deleted = channel.queue_delete(object.into(), QueueDeleteOptions::default()).await;
        deleted.map_err(|e| session.fault(&e))?;
    }
    delete_keys(topology, &session, &entry).await
}

/// Sees to it that nothing delayed comes to a queue any more, and that all that has come is confirmed. What comes while the
/// queue ends would hold one of the few places of its delay for three minutes.
async fn detach(
    topology: &Arc<Topology>,
    session: &Session,
    queue: &QueueName,
    entry: &CatalogueEntry,
) -> Result<()> {
    let channel = session.channel().await?;
    let (ready, key) = (topology.names.ready(queue), due_pattern(&entry.address));
    let steps = async {
        let (name, key) = (ready.as_str().into(), key.as_str().into());
        channel.queue_unbind(name, DUE.into(), key, FieldTable::default()).await?;
        channel.queue_purge(ready.as_str().into(), QueuePurgeOptions::default()).await?;
        fence(channel.clone(), ready.clone()).await
    };
    match steps.await {
        Err(error) if !is_missing(&error) => Err(session.fault(&error)),
        Ok(_) | Err(_) => Ok(()),
    }
}
