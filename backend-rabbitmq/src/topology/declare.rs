//! Making, finding and deleting the broker objects behind one queue.

use crate::topology::create_catalogue::{append, ensure_catalogue};
use crate::topology::dedup_queues::declare_keys;
use crate::topology::lookup::up_to_date;
use crate::topology::state::Topology;
use std::sync::Arc;

use lapin::ExchangeKind;
use lapin::types::FieldTable;
use polyqueue::{Certainty, Error, Pattern, QueueName, QueueSpec, Result};

use crate::address::NAME;
use crate::connection::change::Change;
use crate::connection::fault::if_there;
use crate::connection::request::Confirm;
use crate::topology::records::{CatalogueEntry, Record};
use crate::wire::delay::DUE;

/// Makes a queue, or adds bindings to the one that is there.
///
/// # Errors
/// `Invalid` when it is there and was declared to be something else.
pub(crate) async fn declare(topology: &Arc<Topology>, spec: &QueueSpec) -> Result<()> {
    up_to_date(topology).await?;
    let control = topology.handle.control();
    if topology.catalogue.is_unread() {
        ensure_catalogue(topology, false).await?;
        topology.catalogue.refresh(control).await?;
    }
    let listed = topology.catalogue.entry(&spec.name);
    if let Some(existing) = &listed {
        spec.check_redeclared(&existing.spec)?;
    }
    // Many queues are declared at a time, and the broker makes what one channel asks for one after the other.
    let channel = control.dedicated().await?;
    let mut changes = queues_of(topology, spec);
    let entry = match listed {
        Some(entry) => entry,
        None => {
            channel.change(std::mem::take(&mut changes)).await?;
            list(topology, spec).await?
        }
    };
    changes.extend(bindings_of(topology, spec, &entry));
    channel.change(changes).await?;
    declare_keys(topology, &entry).await?;
    list_bindings(topology, &entry, spec).await?;
    topology.handle.publisher().await?.remember(topology.names.ready(&spec.name));
    Ok(())
}

/// The broker's queues behind a queue.
fn queues_of(topology: &Topology, spec: &QueueSpec) -> Vec<Change> {
    let (ready, dead) = (topology.names.ready(&spec.name), topology.names.dead(&spec.name));
    let kind = topology.queue_type(&spec.name);
    let arguments = [kind.ready_arguments(&dead), kind.dead_arguments()];
    let queue = |(name, arguments)| Change::Queue { name, arguments };
    [ready, dead].into_iter().zip(arguments).map(queue).collect()
}

/// What binds a queue to its address and its topics.
fn bindings_of(topology: &Topology, spec: &QueueSpec, entry: &CatalogueEntry) -> Vec<Change> {
    let (ready, topics) = (topology.names.ready(&spec.name), topology.names.topics());
    let bind = |exchange: &str, pattern: &str| Change::Bind {
        queue: ready.clone(),
        exchange: exchange.to_owned(),
        pattern: pattern.to_owned(),
    };
    let mut changes = vec![due_exchange(), bind(DUE, &entry.address)];
    if !spec.bindings.is_empty() {
        let (name, arguments) = (topics.clone(), FieldTable::default());
        changes.push(Change::Exchange { name, kind: ExchangeKind::Topic, arguments });
    }
    changes.extend(spec.bindings.iter().map(|pattern| bind(&topics, pattern.as_str())));
    changes
}

/// The exchange that leads what is due to its queue.
pub(crate) fn due_exchange() -> Change {
    let arguments = FieldTable::default();
    Change::Exchange { name: DUE.to_owned(), kind: ExchangeKind::Direct, arguments }
}

/// Writes a queue into the catalogue and answers what it says then: another's declaration may have come first.
async fn list(topology: &Arc<Topology>, spec: &QueueSpec) -> Result<CatalogueEntry> {
    let record = Record::declare(spec);
    if let Confirm::Unroutable = topology.handle.store(topology.catalogue.request(&record)).await? {
        ensure_catalogue(topology, true).await?;
        append(topology, &record).await?;
    }
    topology.catalogue.refresh(topology.handle.control()).await?;
    let entry = topology.catalogue.entry(&spec.name).ok_or_else(|| {
        let said = "the catalogue does not show what was written to it";
        Error::backend(NAME, Certainty::Unknown, said)
    })?;
    spec.check_redeclared(&entry.spec)?;
    Ok(entry)
}

/// Writes the bindings that are new into the catalogue.
async fn list_bindings(topology: &Arc<Topology>, entry: &CatalogueEntry, spec: &QueueSpec) -> Result<()> {
    let new: Vec<_> = spec.bindings.difference(&entry.spec.bindings).cloned().collect();
    for pattern in new {
        let (queue, address) = (spec.name.to_string(), entry.address.clone());
        list_binding(topology, Record::Bind { queue, address, pattern }).await?;
    }
    Ok(())
}

/// Writes a record about a binding, and acts by it at once: what it says does not depend on what others write.
async fn list_binding(topology: &Arc<Topology>, record: Record) -> Result<()> {
    append(topology, &record).await?;
    topology.catalogue.apply(record);
    Ok(())
}

/// Removes a binding, here and in the catalogue.
pub(crate) async fn unbind(topology: &Arc<Topology>, queue: &QueueName, pattern: &Pattern) -> Result<()> {
    up_to_date(topology).await?;
    let entry = topology.catalogue.entry(queue).ok_or_else(|| Error::not_found(queue.clone()))?;
    if !entry.spec.bindings.contains(pattern) {
        return Ok(());
    }
    let (ready, topics) = (topology.names.ready(queue), topology.names.topics());
    let gone = Change::Unbind { queue: ready, exchange: topics, pattern: pattern.to_string() };
    if_there(topology.handle.control().change(vec![gone]).await)?;
    let (queue, address) = (queue.to_string(), entry.address);
    list_binding(topology, Record::Unbind { queue, address, pattern: pattern.clone() }).await
}
