//! Deleting a queue with all that is in it or on its way to it: in steps, each of which may be done again.

use crate::connection::change::Change;
use crate::connection::publisher::lost;
use crate::topology::create_catalogue::append;
use crate::topology::dedup_queues::delete_keys;
use crate::topology::follow::up_to_date;
use crate::topology::lookup::entry;
use crate::topology::records::{CatalogueEntry, Record};
use crate::topology::routes::{entries, exists, leads};
use crate::topology::state::Topology;
use crate::topology::turn::Turn;
use crate::wire::names::{SINK, ended, lives};
use polyqueue::backend::background;
use polyqueue::{QueueName, Result};
use std::sync::Arc;

/// Deletes a queue with all that is in it or on its way to it. What has begun goes on when nobody waits for it any more.
pub(crate) async fn delete(topology: &Arc<Topology>, queue: &QueueName) -> Result<()> {
    topology.catalogue.forget_lost(queue);
    let (topology, queue) = (topology.clone(), queue.clone());
    let deleted = background().spawn(async move { begin_and_finish(&topology, &queue).await });
    deleted.await.unwrap_or_else(|_| Err(lost()))
}

async fn begin_and_finish(topology: &Arc<Topology>, queue: &QueueName) -> Result<()> {
    up_to_date(topology).await?;
    if topology.catalogue.entry(queue).is_none()
        && let Some(begun) = topology.catalogue.being_deleted(queue)
    {
        return finish(topology, &begun).await;
    }
    let entry = entry(topology, queue).await?;
    topology.catalogue.forget_unlisted(queue);
    begin(topology, &entry).await?;
    topology.catalogue.delete_here(entry.address.clone());
    finish(topology, &entry).await
}

/// Clears away what is left of a life that the listing says is over, but what the next one of its queue goes on with.
pub(crate) async fn clear_former(topology: &Arc<Topology>, former: &CatalogueEntry) -> Result<()> {
    if *topology.names.first_address(former.name()) == *former.address {
        topology.handle.control().change(mark(topology, &former.address)).await?;
    }
    delete_keys(topology, former).await
}

/// Says that it ends: from here on nothing is this queue's.
async fn begin(topology: &Arc<Topology>, entry: &CatalogueEntry) -> Result<()> {
    let deleting = Record::Deleting { queue: entry.name().to_string(), address: entry.address.clone() };
    append(topology, &deleting).await?;
    topology.catalogue.apply(deleting);
    Ok(())
}

/// Brings a deletion to its end that has begun, by whomever.
pub(crate) async fn finish(topology: &Arc<Topology>, entry: &CatalogueEntry) -> Result<()> {
    let (control, names, queue) = (topology.handle.control(), &topology.names, entry.name());
    if *names.first_address(queue) == *entry.address {
        control.change(mark(topology, &entry.address)).await?;
    }
    let turn = Turn::over(topology, queue).await?;
    if is_its_own(topology, entry).await? {
        let objects = [names.ready(queue), names.dead(queue)];
        turn.change(objects.map(|name| Change::NoQueue { name }).into()).await?;
    }
    turn.end().await;
    delete_keys(topology, entry).await?;
    let record = Record::Delete { queue: queue.to_string(), address: entry.address.clone() };
    append(topology, &record).await?;
    topology.catalogue.apply(record);
    Ok(())
}

/// What says for ever that the life at this address was ended: whoever declares the queue anew takes another one.
fn mark(topology: &Topology, address: &str) -> Vec<Change> {
    let mut changes = entries(topology);
    let (queue, exchange) = (SINK.to_owned(), topology.names.entry());
    changes.push(Change::Bind { queue, exchange, pattern: ended(address) });
    changes
}

/// Whether what is there is of this life: somebody may have ended it and declared the queue anew, meanwhile.
async fn is_its_own(topology: &Arc<Topology>, entry: &CatalogueEntry) -> Result<bool> {
    if leads(topology, lives(&entry.address)).await? {
        return Ok(true);
    }
    let names = &topology.names;
    if !exists(topology, &names.ready(entry.name())).await? {
        return Ok(true); // its dead letters may be there
    }
    up_to_date(topology).await?;
    Ok(topology.catalogue.entry(entry.name()).is_none())
}
