//! What is published for a message.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use lapin::BasicProperties;
use polyqueue::{Message, QueueName, Result};

use crate::connection::request::PublishRequest;
use crate::topology::delay_queues::{ensure_delay_queues, request};
use crate::topology::records::CatalogueEntry;
use crate::topology::routes::address_now;
use crate::topology::state::Topology;
use crate::wire::encode::encode;
use crate::wire::names::{by_address, by_name};
use crate::wire::terms::with_terms;

/// The properties of a message that is published now.
pub(crate) fn properties(message: &Message, now: DateTime<Utc>) -> BasicProperties {
    let published = message.published_at().unwrap_or(now).timestamp_millis();
    with_terms(encode(message, published), message, now)
}

/// The requests of a batch.
pub(crate) async fn requests(
    topology: &Arc<Topology>,
    queue: &QueueName,
    batch: &[Message],
) -> Result<Vec<PublishRequest>> {
    let delays: Vec<Duration> = batch.iter().map(Message::delay).filter(|delay| !delay.is_zero()).collect();
    let mut to = Arc::from("");
    if !delays.is_empty() {
        to = address_now(topology, queue).await?;
        ensure_delay_queues(topology, &delays).await?;
    }
    let now = topology.handle.now();
    let mut requests = Vec::with_capacity(batch.len());
    for message in batch {
        let properties = properties(message, now);
        let body = message.payload().clone();
        requests.push(if message.delay().is_zero() {
            PublishRequest { exchange: topology.names.entry(), key: by_name(queue), properties, body }
        } else {
            request(topology, queue, &to, message.delay(), properties, body).await?
        });
    }
    Ok(requests)
}

/// The request for one copy of a message, for the queue at this address.
pub(crate) async fn copy(
    topology: &Arc<Topology>,
    entry: &CatalogueEntry,
    delay: Duration,
    properties: BasicProperties,
    body: Bytes,
) -> Result<PublishRequest> {
    if delay.is_zero() {
        let (exchange, key) = (topology.names.entry(), by_address(&entry.address));
        return Ok(PublishRequest { exchange, key, properties, body });
    }
    request(topology, entry.name(), &entry.address, delay, properties, body).await
}
