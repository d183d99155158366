//! What is known of a queue: the catalogue first, the broker where that is not enough.

use crate::connection::fault::is_missing;
use crate::connection::link::Session;
use crate::topology::records::CatalogueEntry;
use crate::topology::state::Topology;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use polyqueue::{Error, QueueName, QueueSpec, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How old what we read in the catalogue may be, when a delayed message is published by it.
const FRESH: Duration = Duration::from_secs(1);

/// For how long a broker is asked again that could not show its catalogue, and how often.
const JUST_STARTED: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(100);

/// A connection, with the catalogue read over it to its end. A broker that has just started may answer such a question by
/// ending the connection; since reading changes nothing, it is asked again.
pub(crate) async fn up_to_date(topology: &Arc<Topology>) -> Result<Arc<Session>> {
    let until = Instant::now() + JUST_STARTED;
    loop {
        let session = topology.handle.control().await?;
        match topology.catalogue.refresh(&session).await {
            Ok(()) => return Ok(session),
            Err(error) if error.is_transient() && Instant::now() < until => {
                tracing::debug!(name: "rabbitmq.catalogue_unread", %error);
                sleep(AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// A queue, as the catalogue had it a moment ago.
///
/// # Errors
/// `NotFound` for a queue that is not in the catalogue.
pub(crate) async fn entry(topology: &Arc<Topology>, queue: &QueueName) -> Result<CatalogueEntry> {
    let known = topology.catalogue.entry(queue);
    if known.is_none() || !topology.catalogue.is_fresh(FRESH) {
        up_to_date(topology).await?;
    }
    topology.catalogue.entry(queue).ok_or_else(|| Error::not_found(queue.clone()))
}

/// The queue's address for delayed messages.
///
/// # Errors
/// `NotFound` for a queue that is not in the catalogue.
pub(crate) async fn address(topology: &Arc<Topology>, queue: &QueueName) -> Result<Arc<str>> {
    entry(topology, queue).await.map(|entry| entry.address)
}

/// How many messages are ready in a broker's queue.
///
/// # Errors
/// `NotFound` when it is not there.
pub(crate) async fn count(topology: &Arc<Topology>, queue: &QueueName, object: String) -> Result<u64> {
    let session = topology.handle.control().await?;
    let channel = session.channel().await?;
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    match channel.queue_declare(object.into(), options, FieldTable::default()).await {
        Ok(found) => Ok(found.message_count().into()),
        Err(error) if is_missing(&error) => Err(Error::not_found(queue.clone())),
        Err(error) => Err(session.fault(&error)),
    }
}

/// Says `NotFound` for a queue that is not there; asks once a connection.
pub(crate) async fn check_exists(topology: &Arc<Topology>, queue: &QueueName) -> Result<()> {
    let ready = topology.names.ready(queue);
    let publisher = topology.handle.publisher().await?;
    if !publisher.knows(&ready) {
        address(topology, queue).await?;
        count(topology, queue, ready.clone()).await?;
        publisher.remember(ready);
    }
    Ok(())
}

/// All queues of the namespace, by name.
pub(crate) async fn queues(topology: &Arc<Topology>) -> Result<Vec<QueueSpec>> {
    up_to_date(topology).await?;
    Ok(topology.catalogue.queues())
}
