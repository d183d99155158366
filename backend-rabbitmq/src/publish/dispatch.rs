//! Where a batch goes.

use futures_util::FutureExt;
use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;

use polyqueue::backend::begin_delays;
use polyqueue::{Certainty, Destination, Error, Message, Published, QueueName, Result};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::address::NAME;
use crate::connection::publisher::{Publisher, lost};
use crate::connection::request::{Confirm, PublishRequest};
use crate::delay::request::{publish_again, tell_if_slow, waits};
use crate::publish::call_time::CallTime;
use crate::publish::fan_out::{careful, publish_copies};
use crate::publish::reply::publish_replies;
use crate::publish::requests::requests;
use crate::publish::state::Publishing;
use crate::publish::topic::publish_to_topic;
use crate::topology::revival::{revive, revive_bound};

/// How many requests are made at a time: what waits for room needs no request yet.
const PART: usize = 256;

pub(crate) async fn dispatch(
    publishing: &Arc<Publishing>,
    to: &Destination,
    mut batch: Vec<Message>,
) -> Result<Vec<Result<Published>>> {
    let handle = &publishing.topology.handle;
    begin_delays(&handle.limits, to, &mut batch, handle.now())?;
    let time = &CallTime::of(handle);
    match send(publishing, to, &batch, time).await {
        Err(Error::NotFound(_)) if is_back(publishing, to, time.by).boxed().await? => {
            send(publishing, to, &batch, time).await
        }
        Ok(results) if matches!(to, Destination::Queue(_)) && results.iter().any(is_missing) => {
            Ok(send_missing(publishing, to, &batch, results, time).boxed().await)
        }
        answer => answer,
    }
}

fn is_missing(result: &Result<Published>) -> bool {
    matches!(result, Err(Error::NotFound(_)))
}

/// Some have found the queue by a way that the others do not have: where it is there, these go by another.
async fn send_missing(
    publishing: &Arc<Publishing>,
    to: &Destination,
    batch: &[Message],
    mut results: Vec<Result<Published>>,
    time: &CallTime,
) -> Vec<Result<Published>> {
    let missing: Vec<usize> =
        results.iter().enumerate().filter(|(_, result)| is_missing(result)).map(|(at, _)| at).collect();
    let again = async {
        if !is_back(publishing, to, time.by).await? {
            return Ok(None);
        }
        let messages: Vec<Message> = missing.iter().map(|at| batch[*at].clone()).collect();
        send(publishing, to, &messages, time).await.map(Some)
    };
    match again.await {
        Ok(None) => {}
        Ok(Some(again)) => missing.into_iter().zip(again).for_each(|(at, again)| results[at] = again),
        Err(error) => missing.into_iter().for_each(|at| results[at] = Err(error.clone())),
    }
    results
}

async fn send(
    publishing: &Arc<Publishing>,
    to: &Destination,
    batch: &[Message],
    time: &CallTime,
) -> Result<Vec<Result<Published>>> {
    let handle = &publishing.topology.handle;
    match to {
        Destination::Queue(queue) => {
            match handle.in_time("publish", time.by, careful(publishing, queue, batch)).await? {
                Some(entry) => publish_copies(publishing, to, &[entry], batch, time).boxed().await,
                None => publish_to(publishing, queue, batch, time).await,
            }
        }
        Destination::Topic(key) => publish_to_topic(publishing, key, batch, time).boxed().await,
        Destination::Reply(address) => publish_replies(handle, address, batch, time.by).boxed().await,
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
            Destination::Topic(key) => revive_bound(topology, key).await,
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

/// The slots that are published to, in case that this takes long.
#[derive(Default)]
struct Slow(Option<(Instant, BTreeSet<String>)>);

impl Slow {
    fn add(&mut self, request: &PublishRequest) {
        if waits(request) {
            let (_, slots) = self.0.get_or_insert_with(|| (Instant::now(), BTreeSet::new()));
            if !slots.contains(&request.key) {
                slots.insert(request.key.clone());
            }
        }
    }

    async fn tell(self, publishing: &Publishing, publisher: &Publisher) {
        if let Some((began, slots)) = self.0 {
            tell_if_slow(&publishing.wheel, publisher, began, slots).await;
        }
    }
}

/// What is delayed and came back found no slot: it is published again when that is made. Answers how many are stored now.
async fn make_slots(
    publishing: &Arc<Publishing>,
    publisher: &Publisher,
    queue: &QueueName,
    batch: &[Message],
    results: &mut [Result<Published>],
    time: &CallTime,
) -> u64 {
    let came_back = |(_, (result, message)): &(usize, (&Result<Published>, &Message))| {
        matches!(result, Err(Error::NotFound(_))) && !message.delay().is_zero()
    };
    let back: Vec<usize> =
        results.iter().zip(batch).enumerate().filter(came_back).map(|(at, _)| at).collect();
    if back.is_empty() {
        return 0;
    }
    let messages: Vec<&Message> = back.iter().map(|at| &batch[*at]).collect();
    let handle = &publishing.topology.handle;
    let again = async {
        let requests = requests(publishing, queue, &messages, time.began).await?;
        Ok(publish_again(&publishing.wheel, publisher, requests, time.by).await)
    };
    let again = match handle.in_time("publish", time.by, again).await {
        Ok(again) => again,
        Err(error) => back.iter().map(|_| Err(error.clone())).collect(),
    };
    let mut stored = 0;
    for (at, answer) in back.into_iter().zip(again) {
        stored += u64::from(answer.is_ok());
        results[at] = answer.map(|_| Published::stored(batch[at].id().clone()));
    }
    stored
}

/// Publishes to a queue by its name.
async fn publish_to(
    publishing: &Arc<Publishing>,
    queue: &QueueName,
    batch: &[Message],
    time: &CallTime,
) -> Result<Vec<Result<Published>>> {
    let (topology, by) = (&publishing.topology, time.by);
    let handle = &topology.handle;
    let late = |certainty| Error::timeout("publish", handle.deadline, certainty);
    let publisher = handle.in_time("publish", by, handle.publisher()).await?;
    handle.check_open()?;
    let mut answers = Vec::with_capacity(batch.len());
    let mut slow = Slow::default();
    for part in batch.chunks(PART) {
        let part: Vec<&Message> = part.iter().collect();
        match handle.in_time("publish", by, requests(publishing, queue, &part, time.began)).await {
            Ok(requests) => {
                for request in requests {
                    slow.add(&request);
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
    slow.tell(publishing, &publisher).boxed().await;
    stored += make_slots(publishing, &publisher, queue, batch, &mut results, time).boxed().await;
    handle.meter.of(queue).published(stored);
    if results.iter().all(|result| matches!(result, Err(Error::NotFound(_)))) {
        return Err(Error::not_found(queue.clone()));
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It is moved several times on its way; what is rare has its room elsewhere. It had 22,000 bytes once, and cost twice as much.
    #[test]
    fn a_publish_carries_little_along() {
        fn size<'a, F: Future>(_: fn(&'a Arc<Publishing>, &'a Destination, Vec<Message>) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size(dispatch) <= 3_000, "{} bytes", size(dispatch));
    }
}
