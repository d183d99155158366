//! What is published for a message that is delayed: into the slot of its time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lapin::BasicProperties;
use polyqueue::{Certainty, Error, QueueName, Result};
use tokio::sync::oneshot;

use crate::address::NAME;
use crate::connection::publisher::Publisher;
use crate::connection::request::{Confirm, PublishRequest};
use crate::delay::ensure::queue;
use crate::delay::slots::{Cell, FROM_OUTSIDE};
use crate::delay::wheel::Wheel;
use crate::topology::state::Topology;
use crate::wire::delay::{LOOK, Ticket, slot_of_queue};

/// How often a slot is made for a message that comes back.
const TRIES: usize = 3;
/// What took so long may have come when its slot was over.
const SLOW: Duration = Duration::from_millis(800);

/// When delays begin of what was `called` then. The first of a client waits until the broker's time is known; they begin then.
pub(crate) async fn begin(wheel: &Wheel, called: Instant) -> Instant {
    wheel.start();
    if wheel.shared.clock.is_sharp() {
        return called;
    }
    wheel.shared.clock.known().await;
    Instant::now()
}

/// A request for a queue: at once, or after a delay that began `then`.
pub(crate) fn request(
    wheel: &Wheel,
    topology: &Topology,
    to: (&QueueName, &str),
    (then, delay): (Instant, Duration),
    properties: BasicProperties,
    body: Bytes,
) -> Result<PublishRequest> {
    let (target, exchange) = (topology.names.ready(to.0), String::new());
    if delay.is_zero() {
        return Ok(PublishRequest { exchange, key: target, properties, body });
    }
    let clock = &wheel.shared.clock;
    let (due, now) = clock.due(then, delay).zip(clock.latest()).ok_or_else(no_time)?;
    let namespace = topology.names.namespace().to_owned();
    let ticket = Ticket { due, address: to.1.to_owned(), namespace, target, stranded: None };
    let key = Cell::of(due, now, FROM_OUTSIDE).slot().queue();
    Ok(PublishRequest { exchange, key, properties: ticket.write(properties), body })
}

fn no_time() -> Error {
    Error::unavailable(NAME, Certainty::Definite, "the broker's time is not known yet")
}

/// Whether a request is for a slot.
pub(crate) fn waits(request: &PublishRequest) -> bool {
    request.exchange.is_empty() && slot_of_queue(&request.key).is_some()
}

/// Publishes again what came back, because its slot was missing: makes each slot once, for all.
pub(crate) async fn publish_again(
    wheel: &Wheel,
    publisher: &Publisher,
    requests: Vec<PublishRequest>,
    by: tokio::time::Instant,
) -> Vec<Result<Confirm>> {
    let mut results: Vec<Result<Confirm>> = requests.iter().map(|_| Ok(Confirm::Unroutable)).collect();
    for _ in 0..TRIES {
        let left: Vec<usize> =
            (0..requests.len()).filter(|at| matches!(results[*at], Ok(Confirm::Unroutable))).collect();
        let slots: BTreeSet<&str> = left.iter().map(|at| requests[*at].key.as_str()).collect();
        for slot in slots {
            if let Err(error) = make_slot(wheel, slot).await {
                left.iter()
                    .filter(|at| requests[**at].key == slot)
                    .for_each(|at| results[*at] = Err(error.clone()));
            }
        }
        let mut sent: Vec<(usize, oneshot::Receiver<Result<Confirm>>)> = Vec::with_capacity(left.len());
        for at in left.into_iter().filter(|at| results[*at].is_ok()) {
            sent.push((at, publisher.publish(requests[at].clone(), by).await));
        }
        for (at, answer) in sent {
            results[at] = wheel.handle.answered(answer, by).await;
        }
    }
    results.into_iter().map(found).collect()
}

/// A slot that is not there although it was made is no queue that was not found.
fn found(result: Result<Confirm>) -> Result<Confirm> {
    match result? {
        Confirm::Unroutable => {
            let said = "the queues in which delayed messages wait are being deleted";
            Err(Error::unavailable(NAME, Certainty::Definite, said))
        }
        Confirm::Stored => Ok(Confirm::Stored),
    }
}

/// Makes a slot, unless somebody has since it was asked for.
pub(crate) async fn make_slot(wheel: &Wheel, slot: &str) -> Result<()> {
    let asked = tokio::time::Instant::now();
    let mut made = wheel.shared.made.lock().await;
    if made.get(slot).is_none_or(|before| *before < asked) {
        wheel.handle.control().change(vec![queue(slot.to_owned())]).await?;
        made.insert(slot.to_owned(), tokio::time::Instant::now());
    }
    Ok(())
}

/// Tells whoever moves of slots that what was published since `began` may have come to when they were over.
pub(crate) async fn tell_if_slow(
    wheel: &Arc<Wheel>,
    publisher: &Publisher,
    began: tokio::time::Instant,
    slots: impl IntoIterator<Item = String>,
) {
    if began.elapsed() < SLOW {
        return;
    }
    for slot in slots.into_iter().collect::<BTreeSet<_>>() {
        let properties = BasicProperties::default();
        let (exchange, key, body) = (String::new(), LOOK.to_owned(), Bytes::from(slot));
        drop(
            publisher.publish(PublishRequest { exchange, key, properties, body }, wheel.handle.until()).await,
        );
    }
}
