//! Messages to topics: through the broker's exchange where that will do, as copies of our own where it will not.

use crate::publish::call_time::CallTime;
use crate::publish::fan_out::publish_copies;
use crate::publish::requests::properties;
use crate::publish::state::Publishing;
use crate::topology::follow::{read_if_readable, up_to_date};
use crate::topology::routes::has_exchange;
use std::sync::Arc;

use polyqueue::backend::not_found_if_all;
use polyqueue::{Destination, Error, Message, Published, Result, RoutingKey};
use tokio::time::Instant;

use crate::connection::request::{Confirm, PublishRequest};
use crate::topology::records::CatalogueEntry;

/// Publishes to all queues that are bound to this topic.
///
/// # Errors
/// `NotFound` when none is.
pub(crate) async fn publish_to_topic(
    publishing: &Arc<Publishing>,
    key: &RoutingKey,
    batch: &[Message],
    time: &CallTime,
) -> Result<Vec<Result<Published>>> {
    let by = time.by;
    // The exchange knows only now; what waits or is remembered is for the queues that are bound at this moment.
    let exact = batch.iter().any(|message| !message.delay().is_zero() || message.dedup_key().is_some());
    let entries = publishing.topology.handle.in_time("publish", by, matching(publishing, key, exact)).await?;
    if exact || entries.iter().any(|entry| entry.spec.bound.is_some()) {
        return publish_copies(publishing, &Destination::Topic(key.clone()), &entries, batch, time).await;
    }
    publish_to_exchange(publishing, key, &entries, batch, by).await
}

/// The queues that are bound to a topic. `exact`: by all that was confirmed before; otherwise by what is known where the catalogue
/// cannot be read: the exchange knows better than it which they are.
async fn matching(
    publishing: &Arc<Publishing>,
    key: &RoutingKey,
    exact: bool,
) -> Result<Vec<CatalogueEntry>> {
    let topology = &publishing.topology;
    if exact {
        up_to_date(topology).await?;
    } else if !topology.catalogue.is_live() {
        read_if_readable(topology).await;
    }
    Ok(topology.catalogue.matching(key))
}

async fn publish_to_exchange(
    publishing: &Arc<Publishing>,
    key: &RoutingKey,
    entries: &[CatalogueEntry],
    batch: &[Message],
    by: Instant,
) -> Result<Vec<Result<Published>>> {
    let exchange = publishing.topology.names.topics();
    // The exchange is there once any queue was bound.
    let has_topics = has_exchange(&publishing.topology, &exchange);
    if !publishing.topology.handle.in_time("publish", by, has_topics).await? {
        return Err(Error::not_found(key));
    }
    let now = publishing.topology.handle.now();
    let request = |message: &Message| PublishRequest {
        exchange: exchange.clone(),
        key: key.as_str().to_owned(),
        properties: properties(message, now),
        body: message.payload().clone(),
    };
    let answers = publishing.topology.handle.send(batch.iter().map(request), by).await?;
    let results: Vec<Result<Published>> = answers
        .into_iter()
        .zip(batch)
        .map(|(answer, message)| match answer? {
            Confirm::Stored => Ok(Published::stored(message.id().clone())),
            Confirm::Unroutable => Err(Error::not_found(key)),
        })
        .collect();
    let stored = results.iter().filter(|result| result.is_ok()).count() as u64;
    for entry in entries {
        publishing.topology.handle.meter.of(entry.name()).published(stored);
    }
    not_found_if_all(results)
}
