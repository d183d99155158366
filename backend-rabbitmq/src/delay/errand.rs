//! What who moves has done beside it: looking which slots are there, and making those that are missing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use polyqueue::Result;
use tokio::time::Instant;

use crate::connection::handle::Handle;
use crate::connection::publisher::Publisher;
use crate::connection::request::PublishRequest;
use crate::delay::ensure::{ensure_lost, missing, queue};
use crate::delay::held::Held;
use crate::delay::slots::{Cell, Slot};
use crate::delay::turn::Turn;
use crate::wire::delay::NEXT;

/// How long one may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What was done.
pub(crate) enum Errand {
    /// These slots are there.
    There(Result<Vec<Slot>>),
    /// This slot was made, for these messages.
    Made(Slot, Result<()>, Vec<(Held, Cell)>),
    /// Where lost messages go was made, for this one.
    MadeLost(Result<()>, Box<Held>),
}

/// What is under way.
pub(crate) struct Errands {
    handle: Arc<Handle>,
    publisher: Publisher,
    under_way: FuturesUnordered<BoxFuture<'static, Errand>>,
    /// What waits for a slot that is being made.
    waiting: HashMap<Slot, Vec<(Held, Cell)>>,
}

impl Errands {
    pub(crate) fn new(handle: Arc<Handle>, publisher: Publisher) -> Self {
        let (under_way, waiting) = Default::default();
        Self { handle, publisher, under_way, waiting }
    }

    /// Asks which of these slots are there.
    pub(crate) fn ask(&mut self, slots: Vec<Slot>) {
        let publisher = self.publisher.clone();
        let asked = async move {
            let queues: Vec<String> = slots.iter().map(|slot| slot.queue()).collect();
            let missing = missing(&publisher, &queues, Instant::now() + LIMIT).await?;
            let there = slots.into_iter().zip(queues).filter(|(_, queue)| !missing.contains(queue));
            Ok(there.map(|(slot, _)| slot).collect())
        };
        self.under_way.push(asked.map(Errand::There).boxed());
    }

    /// Makes a slot, once for all that wait for it.
    pub(crate) fn make(&mut self, slot: Slot, held: Vec<(Held, Cell)>) {
        if let Some(waiting) = self.waiting.get_mut(&slot) {
            return waiting.extend(held);
        }
        self.waiting.insert(slot, held);
        let handle = self.handle.clone();
        let made = async move {
            let made = handle.control().change(vec![queue(slot.queue())]).await.map_err(Into::into);
            Errand::Made(slot, made, Vec::new())
        };
        self.under_way.push(made.boxed());
    }

    /// Makes where lost messages go.
    pub(crate) fn make_lost(&mut self, held: Held) {
        let handle = self.handle.clone();
        let made = async move { Errand::MadeLost(ensure_lost(handle.control()).await, Box::new(held)) };
        self.under_way.push(made.boxed());
    }

    /// The next that is done, if any is under way.
    pub(crate) async fn next(&mut self) -> Option<Errand> {
        Some(match self.under_way.next().await? {
            Errand::Made(slot, made, _) => {
                Errand::Made(slot, made, self.waiting.remove(&slot).unwrap_or_default())
            }
            other => other,
        })
    }

    /// Gives the turn back, and leaves a hint, so that whoever stands by need not wait until he looks again.
    pub(crate) async fn leave(&mut self, turn: Turn) {
        turn.release().await;
        let (key, body) = (NEXT.to_owned(), bytes::Bytes::from_static(b"next"));
        let (exchange, properties) = (String::new(), lapin::BasicProperties::default());
        let hint = PublishRequest { exchange, key, properties, body };
        let _ = self.publisher.publish(hint, Instant::now() + LIMIT).await.await;
    }

    /// Whether nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }
}
