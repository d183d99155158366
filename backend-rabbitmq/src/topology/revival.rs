//! What is not there when it is used: looked for once more, and declared again where nobody has deleted it in order.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Certainty, Error, Event, QueueName, Result, RoutingKey};

use tokio::time::Instant;

use crate::address::NAME;
use crate::topology::declare::{declare, declare_after, declare_again};
use crate::topology::follow::read_if_readable;
use crate::topology::records::CatalogueEntry;
use crate::topology::routes::{exists, leads, listed_soon, restore};
use crate::topology::state::Topology;
use crate::wire::names::ended;

/// How long a queue may be there that its declaration has not listed yet.
const BEING_LISTED: Duration = Duration::from_secs(1);

/// How often a revival begins anew that a loss has come into.
const ATTEMPTS: u32 = 3;

/// A queue is not there, by the way that was tried. Looks anew, and mends what can be. Answers whether it is there now.
///
/// # Errors
/// Nobody can say now; `Unavailable` for a queue that is there and of which nobody knows what it was declared to be.
pub(crate) async fn revive(topology: &Arc<Topology>, queue: &QueueName) -> Result<bool> {
    let asked = Instant::now();
    let mut last = topology.revivals.of(queue).lock().await;
    // Whoever waited for one that began after he had asked has his answer.
    if let Some((of, began, revived)) = &*last
        && of == queue
        && *began >= asked
    {
        return revived.clone();
    }
    let began = Instant::now();
    let revived = revive_alone(topology, queue).await;
    *last = Some((queue.clone(), began, revived.clone()));
    revived
}

async fn revive_alone(topology: &Arc<Topology>, queue: &QueueName) -> Result<bool> {
    let mut revived = try_to_revive(topology, queue).await;
    // What was listed when it was looked for may be lost since, with the listing.
    for _ in 1..ATTEMPTS {
        if !matches!(revived, Ok(false)) || topology.catalogue.lost(queue).is_none() {
            break;
        }
        revived = try_to_revive(topology, queue).await;
    }
    if let Err(error) = &revived {
        tracing::debug!(name: "rabbitmq.not_redeclared", %queue, %error, "what the broker has lost could not be declared again for now");
    }
    revived
}

/// A topic reaches nobody. The same for all queues that were bound, and those that are listed as bound to this key. Answers whether
/// one is there now that was not.
pub(crate) async fn revive_bound(topology: &Arc<Topology>, key: &RoutingKey) -> Result<bool> {
    let mut revived = false;
    for queue in topology.catalogue.lost_bound() {
        revived |= revive(topology, &queue).await?;
    }
    let is_bound = || !topology.catalogue.matching(key).is_empty();
    // Most topics that reach nobody have nobody: then nothing is asked.
    if !revived && is_bound() && read_if_readable(topology).await {
        for entry in topology.catalogue.matching(key) {
            revived |= made_again(topology, &entry).await?;
        }
    }
    Ok(revived)
}

async fn try_to_revive(topology: &Arc<Topology>, queue: &QueueName) -> Result<bool> {
    let (catalogue, ready) = (&topology.catalogue, topology.names.ready(queue));
    // Before the listing is read: who deletes in order says so first.
    let is_there = exists(topology, &ready).await?;
    if let Some(entry) = listed_soon(topology, queue, BEING_LISTED).await? {
        catalogue.forget_lost(queue);
        if is_there {
            restore(topology, &entry).await?;
            return Ok(true);
        }
        return made_again(topology, &entry).await;
    }
    if catalogue.being_deleted(queue).is_some() {
        return Ok(false);
    }
    match catalogue.lost(queue) {
        // Only the catalogue is gone.
        Some(lost) if is_there => declare(topology, &lost.spec).await?,
        Some(lost) if leads(topology, ended(&lost.address)).await? => {
            catalogue.forget_lost(queue);
            return Ok(false);
        }
        Some(lost) => {
            declare_after(topology, &lost.spec, Some(&lost.address)).await?;
            topology.handle.events.send(Event::Redeclared { queue: queue.clone() });
        }
        None if is_there => return Err(nobody_knows(topology, queue)),
        // As it was read last, and it cannot be read now.
        None if catalogue.entry(queue).is_some() => return Err(unread(queue)),
        None => return Ok(false),
    }
    catalogue.forget_lost(queue);
    Ok(true)
}

/// Makes a queue and its ways again that nobody has deleted in order. Answers whether it is there now.
async fn made_again(topology: &Arc<Topology>, entry: &CatalogueEntry) -> Result<bool> {
    match declare_again(topology, entry).await {
        Ok(()) => {
            topology.handle.events.send(Event::Redeclared { queue: entry.name().clone() });
            Ok(true)
        }
        // For who may not make it, it is not there.
        Err(Error::Denied { .. } | Error::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn unread(queue: &QueueName) -> Error {
    let said = format!(
        "queue {queue} is not there, and the catalogue, which says whether it was deleted, cannot be read"
    );
    Error::unavailable(NAME, Certainty::Definite, said)
}

fn nobody_knows(topology: &Topology, queue: &QueueName) -> Error {
    topology.catalogue.note_unlisted(queue);
    let said = format!(
        "queue {queue} is there, and the catalogue does not say what bound and keys it has: declare it again"
    );
    Error::unavailable(NAME, Certainty::Definite, said)
}
