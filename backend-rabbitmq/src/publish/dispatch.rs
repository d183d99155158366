//! Where a batch goes.

use std::pin::pin;
use std::sync::Arc;

use polyqueue::backend::begin_delays;
use polyqueue::{Certainty, Destination, Error, Message, Published, QueueName, Result};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::address::NAME;
use crate::connection::publisher::lost;
use crate::connection::request::Confirm;
use crate::publish::fan_out::{careful, publish_copies};
use crate::publish::reply::publish_replies;
use crate::publish::requests::requests;
use crate::publish::state::Publishing;
use crate::publish::topic::publish_to_topic;
use crate::topology::revival::{revive, revive_bound};
use crate::topology::state::Topology;

/// How many requests are made at a time: what waits for room needs no request yet.
const PART: usize = 256;

pub(crate) async fn dispatch(
    publishing: &Arc<Publishing>,
    to: &Destination,
    mut batch: Vec<Message>,
) -> Result<Vec<Result<Published>>> {
    let handle = &publishing.topology.handle;
    begin_delays(&handle.limits, to, &mut batch, handle.now())?;
    let by = handle.until();
    let answer = send(publishing, to, &batch, by).await;
    if matches!(answer, Err(Error::NotFound(_))) && is_back(publishing, to, by).await? {
        return send(publishing, to, &batch, by).await;
    }
    answer
}

async fn send(
    publishing: &Arc<Publishing>,
    to: &Destination,
    batch: &[Message],
    by: Instant,
) -> Result<Vec<Result<Published>>> {
    let handle = &publishing.topology.handle;
    match to {
        Destination::Queue(queue) => {
            match handle.in_time("publish", by, careful(publishing, queue, batch)).await? {
                Some(entry) => publish_copies(publishing, to, &[entry], batch, by).await,
                None => publish_to(&publishing.topology, queue, batch, by).await,
            }
        }
        Destination::Topic(key) => publish_to_topic(publishing, key, batch, by).await,
        Destination::Reply(address) => publish_replies(handle, address, batch, by).await,
    }
}

/// Whether what was not there by the way that was known is there by another, or again.
///
/// # Errors
/// Nobody can say now.
async fn is_back(publishing: &Arc<Publishing>, to: &Destination, by: Instant) -> Result<bool> {
    let topology = &publishing.topology;
    let back = async {
        match to {
            Destination::Queue(queue) => revive(topology, queue).await,
            Destination::Topic(_) => revive_bound(topology).await,
            Destination::Reply(_) => Ok(false),
        }
    };
    match topology.handle.in_time("publish", by, back).await {
        // Of what was to be published nothing was sent.
        Err(error) if error.certainty() == Certainty::Unknown => {
            Err(Error::unavailable(NAME, Certainty::Definite, error))
        }
        back => back,
    }
}

/// The answer for a message of which nothing was sent.
fn failed(error: &Error) -> oneshot::Receiver<Result<Confirm>> {
    let (answer, answered) = oneshot::channel();
    let _ = answer.send(Err(error.clone()));
    answered
}

/// Publishes to a queue by its name.
async fn publish_to(
    topology: &Arc<Topology>,
    queue: &QueueName,
    batch: &[Message],
    by: Instant,
) -> Result<Vec<Result<Published>>> {
    let handle = &topology.handle;
    let late = |certainty| Error::timeout("publish", handle.deadline, certainty);
    let publisher = handle.in_time("publish", by, handle.publisher()).await?;
    handle.check_open()?;
    let mut answers = Vec::with_capacity(batch.len());
    for part in batch.chunks(PART) {
        match handle.in_time("publish", by, requests(topology, queue, part)).await {
            Ok(requests) => {
                for request in requests {
                    answers.push(publisher.publish(request, by).await);
                }
            }
            Err(error) if answers.is_empty() => return Err(error),
            Err(error) => answers.extend(part.iter().map(|_| failed(&error))),
        }
    }
    let mut too_late = pin!(sleep_until(by));
    let mut results = Vec::with_capacity(batch.len());
    let mut stored = 0;
    for (answer, message) in answers.into_iter().zip(batch) {
        let answer = tokio::select! {
            biased;
            answer = answer => answer.unwrap_or_else(|_| Err(lost())),
            () = &mut too_late => Err(late(Certainty::Unknown)),
        };
        results.push(match answer {
            Ok(Confirm::Stored) => {
                stored += 1;
                Ok(Published::stored(message.id().clone()))
            }
            Ok(Confirm::Unroutable) => Err(Error::not_found(queue.clone())),
            Err(error) => Err(error),
        });
    }
    handle.meter.of(queue).published(stored);
    if results.iter().all(|result| matches!(result, Err(Error::NotFound(_)))) {
        return Err(Error::not_found(queue.clone()));
    }
    Ok(results)
}
