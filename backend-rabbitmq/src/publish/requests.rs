//! What is published for a message.

use futures_util::FutureExt;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use lapin::BasicProperties;
use polyqueue::{Message, QueueName, Result};

use crate::connection::request::PublishRequest;
use crate::delay::request::{begin, request};
use crate::publish::state::Publishing;
use crate::topology::routes::address_now;
use crate::wire::encode::encode;
use crate::wire::names::by_name;
use crate::wire::terms::with_terms;

/// The properties of a message that is published now.
pub(crate) fn properties(message: &Message, now: DateTime<Utc>) -> BasicProperties {
    let published = message.published_at().unwrap_or(now).timestamp_millis();
    with_terms(encode(message, published), message, now)
}

/// The requests of a part of a batch that was `called` then.
pub(crate) async fn requests(
    publishing: &Arc<Publishing>,
    queue: &QueueName,
    batch: &[&Message],
    called: Instant,
) -> Result<Vec<PublishRequest>> {
    let topology = &publishing.topology;
    let (mut to, mut then) = (Arc::from(""), called);
    if batch.iter().any(|message| !message.delay().is_zero()) {
        to = address_now(topology, queue).boxed().await?;
        then = begin(&publishing.wheel, called).boxed().await;
    }
    let now = topology.handle.now();
    let mut requests = Vec::with_capacity(batch.len());
    for message in batch {
        let properties = properties(message, now);
        let body = message.payload().clone();
        requests.push(if message.delay().is_zero() {
            PublishRequest { exchange: topology.names.entry(), key: by_name(queue), properties, body }
        } else {
            let (to, wait) = ((queue, &*to), (then, message.delay()));
            request(&publishing.wheel, topology, to, wait, properties, body)?
        });
    }
    Ok(requests)
}
