//! Making, finding and deleting the broker objects behind one queue.

use crate::topology::create_catalogue::{append, ensure_catalogue};
use crate::topology::dedup_queues::declare_keys;
use crate::topology::delay_queues::ensure_delay_queues;
use crate::topology::lookup::up_to_date;
use crate::topology::state::Topology;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, ExchangeKind};
use polyqueue::{Certainty, Error, Pattern, QueueName, QueueSpec, Result};

use crate::address::NAME;
use crate::connection::fault::is_missing;
use crate::connection::link::Session;
use crate::connection::request::Confirm;
use crate::topology::records::{CatalogueEntry, Record};
use crate::wire::delay::{DUE, due_pattern};

/// Makes a queue, or adds bindings to the one that is there.
///
/// # Errors
/// `Invalid` when it is there and was declared to be something else.
pub(crate) async fn declare(topology: &Arc<Topology>, spec: &QueueSpec) -> Result<()> {
    let session = up_to_date(topology).await?;
    if topology.catalogue.is_unread() {
        ensure_catalogue(topology, &session, false).await?;
        topology.catalogue.refresh(&session).await?;
    }
    let spec = &kept(spec);
    let listed = topology.catalogue.entry(&spec.name);
    if let Some(existing) = &listed {
        spec.check_redeclared(&existing.spec)?;
    }
    ensure_delay_queues(topology, &[]).await?;
    let channel = session.channel().await?;
    let mut steps = declare_steps(topology, &channel, spec);
    let entry = match listed {
        Some(entry) => entry,
        None => {
            done(&session, std::mem::take(&mut steps)).await?;
            list(topology, &session, spec).await?
        }
    };
    steps.extend(bind_steps(topology, &channel, spec, &entry));
    done(&session, steps).await?;
    declare_keys(topology, &session, &entry).await?;
    list_bindings(topology, &entry, spec).await?;
    topology.handle.publisher().await?.remember(topology.names.ready(&spec.name));
    Ok(())
}

/// What makes a queue's objects.
fn declare_steps<'a>(topology: &Arc<Topology>, channel: &'a Channel, spec: &QueueSpec) -> Vec<Step<'a>> {
    let (ready, dead) = (topology.names.ready(&spec.name), topology.names.dead(&spec.name));
    let arguments = [topology.queue_type.ready_arguments(&dead), topology.queue_type.dead_arguments()];
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    let declare = |(name, arguments): (String, FieldTable)| {
        channel.queue_declare(name.into(), options, arguments).map_ok(drop).boxed()
    };
    [ready, dead].into_iter().zip(arguments).map(declare).collect()
}

/// What binds a queue to its address and its topics.
fn bind_steps<'a>(
    topology: &Arc<Topology>,
    channel: &'a Channel,
    spec: &QueueSpec,
    entry: &CatalogueEntry,
) -> Vec<Step<'a>> {
    let (ready, topics) = (topology.names.ready(&spec.name), topology.names.topics());
    let bind = |exchange: &str, pattern: &str| {
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(ready.as_str().into(), exchange.into(), pattern.into(), options, none).boxed()
    };
    let mut steps = vec![bind(DUE, &due_pattern(&entry.address))];
    if !spec.bindings.is_empty() {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let (name, none) = (topics.as_str().into(), FieldTable::default());
        steps.push(channel.exchange_declare(name, ExchangeKind::Topic, options, none).boxed());
    }
    steps.extend(spec.bindings.iter().map(|pattern| bind(&topics, pattern.as_str())));
    steps
}

/// Writes a queue into the catalogue and answers what it says then: another's declaration may have come first.
async fn list(topology: &Arc<Topology>, session: &Session, spec: &QueueSpec) -> Result<CatalogueEntry> {
    let record = Record::declare(spec);
    if let Confirm::Unroutable = topology.handle.store(topology.catalogue.request(&record)).await? {
        ensure_catalogue(topology, session, true).await?;
        append(topology, &record).await?;
    }
    topology.catalogue.refresh(session).await?;
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
    let session = up_to_date(topology).await?;
    let entry = topology.catalogue.entry(queue).ok_or_else(|| Error::not_found(queue.clone()))?;
    if !entry.spec.bindings.contains(pattern) {
        return Ok(());
    }
    let channel = session.channel().await?;
    let (ready, topics) = (topology.names.ready(queue), topology.names.topics());
    let (key, none) = (pattern.as_str().into(), FieldTable::default());
    match channel.queue_unbind(ready.into(), topics.into(), key, none).await {
        Err(error) if !is_missing(&error) => return Err(session.fault(&error)),
        Ok(()) | Err(_) => {}
    }
    let (queue, address) = (queue.to_string(), entry.address);
    list_binding(topology, Record::Unbind { queue, address, pattern: pattern.clone() }).await
}

/// One command to the broker.
type Step<'a> = BoxFuture<'a, lapin::Result<()>>;

/// Waits for commands that were given at once; the broker keeps their request.
async fn done(session: &Session, steps: Vec<Step<'_>>) -> Result<()> {
    let done = futures_util::future::join_all(steps).await;
    done.into_iter().collect::<lapin::Result<()>>().map_err(|e| session.fault(&e))
}

/// A specification as the catalogue keeps it: times in whole milliseconds.
fn kept(spec: &QueueSpec) -> QueueSpec {
    let json = serde_json::to_value(spec);
    json.and_then(serde_json::from_value).unwrap_or_else(|_| spec.clone())
}

#[cfg(test)]
mod tests {

    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_declared_twice_is_compared_as_it_is_kept() {
        let spec = QueueSpec::new(QueueName::from_static("q")).dead_max_age(Duration::from_micros(1500));
        assert!(kept(&spec).check_redeclared(&kept(&kept(&spec))).is_ok());
        assert_eq!(kept(&spec).dead.max_age, Some(Duration::from_millis(1)));
    }
}
