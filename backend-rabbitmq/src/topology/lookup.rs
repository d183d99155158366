//! What is known of a queue: the catalogue first, the broker where that is not enough.

use crate::connection::fault::if_there;
use crate::topology::records::CatalogueEntry;
use crate::topology::state::Topology;
use polyqueue::{Error, QueueName, QueueSpec, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How old what we read in the catalogue may be, when a delayed message is published by it.
const FRESH: Duration = Duration::from_secs(1);

/// For how long a broker is asked again that could not show its catalogue, and how often.
const JUST_STARTED: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(100);

/// Reads the catalogue to its end. A broker that has just started may answer such a question by ending the connection; since
/// reading changes nothing, it is asked again.
pub(crate) async fn up_to_date(topology: &Arc<Topology>) -> Result<()> {
    let until = Instant::now() + JUST_STARTED;
    loop {
        match topology.catalogue.refresh(topology.handle.control()).await {
            Ok(()) => return after_a_loss(topology).await,
            Err(error) if error.is_transient() && Instant::now() < until => {
                tracing::debug!(name: "rabbitmq.catalogue_unread", %error, "the catalogue could not be read");
                sleep(AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What was seen on a connection is not there any more where the broker has lost everything since.
async fn after_a_loss(topology: &Arc<Topology>) -> Result<()> {
    if topology.forget_what_was_lost() {
        topology.handle.publisher().await?.forget_all();
    }
    Ok(())
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
pub(crate) async fn count(topology: &Arc<Topology>, queue: &QueueName, object: &str) -> Result<u64> {
    let found = if_there(topology.handle.control().messages(object).await)?;
    found.ok_or_else(|| Error::not_found(queue.clone()))
}

/// Says `NotFound` for a queue that is not there; asks once a connection.
pub(crate) async fn check_exists(topology: &Arc<Topology>, queue: &QueueName) -> Result<()> {
    let ready = topology.names.ready(queue);
    let publisher = topology.handle.publisher().await?;
    if !publisher.knows(&ready) {
        address(topology, queue).await?;
        count(topology, queue, &ready).await?;
        publisher.remember(ready);
    }
    Ok(())
}

/// All queues of the namespace, by name.
pub(crate) async fn queues(topology: &Arc<Topology>) -> Result<Vec<QueueSpec>> {
    up_to_date(topology).await?;
    Ok(topology.catalogue.queues())
}
