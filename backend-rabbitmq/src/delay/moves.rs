//! Publishing what leaves a slot, in order, each confirmed by itself.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use polyqueue::Result;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::connection::publisher::{Publisher, lost};
use crate::connection::request::{Confirm, PublishRequest};
use crate::delay::held::Held;
use crate::delay::slots::Cell;
use crate::wire::delay::{DUE, LOST, arrived, waiting};

/// How long one may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the life of the queue that it is for.
    Due,
    /// Straight into this queue.
    Into(String),
    /// Into another slot.
    Again(Cell),
    /// To where nobody looks for it.
    Lost,
}

/// One message on its way.
pub(crate) struct Move {
    pub(crate) held: Held,
    pub(crate) way: Way,
    pub(crate) began: Instant,
}

/// What became of one.
pub(crate) type Moved = (Move, Result<Confirm>);

impl Move {
    pub(crate) fn new(held: Held, way: Way) -> Self {
        Self { held, way, began: Instant::now() }
    }

    fn request(&self) -> PublishRequest {
        let Held { ticket, properties, body, .. } = &self.held;
        let (exchange, key, properties) = match &self.way {
            Way::Due => (DUE, ticket.address.clone(), arrived(properties)),
            Way::Into(queue) => ("", queue.clone(), arrived(properties)),
            Way::Again(cell) => ("", cell.slot().queue(), ticket.write(waiting(properties))),
            Way::Lost => ("", LOST.to_owned(), ticket.write(waiting(properties))),
        };
        PublishRequest { exchange: exchange.to_owned(), key, properties, body: body.clone() }
    }
}

/// Publishes them one after the other, and tells what became of each.
pub(crate) async fn send(
    publisher: Publisher,
    mut moves: mpsc::UnboundedReceiver<Move>,
    done: mpsc::UnboundedSender<Moved>,
) {
    let mut answers = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(moved) = answers.next() => if done.send(moved).is_err() { return },
            next = moves.recv() => {
                let Some(next) = next else { return };
                let by = Instant::now() + LIMIT;
                let answer = publisher.publish(next.request(), by).await;
                answers.push(async move {
                    let answer = tokio::time::timeout_at(by, answer).await;
                    (next, answer.ok().and_then(std::result::Result::ok).unwrap_or_else(|| Err(lost())))
                });
            }
        }
    }
}
