//! A message that a consumer has, and how far it is with it.

use std::cmp::Reverse;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use polyqueue::{Message, Priority};
use tokio::time::Instant;

use super::receipt::Key;
use crate::expiry::Expiry;
use crate::wire::Raw;

/// A message that can be handed out: what it says and what is needed to publish it again.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) raw: Raw,
    pub(crate) message: Message,
    pub(crate) attempt: u32,
    /// The last attempt that it may have.
    pub(crate) max_attempts: u32,
    /// Its time to live, when it has one.
    pub(crate) expiry: Option<Expiry>,
    /// From when on it may not be handed out.
    pub(crate) stale_at: Option<Instant>,
    /// Its queue's address: tells a queue from a later one of its name.
    pub(crate) address: Option<Arc<str>>,
}

impl Item {
    /// Whether its time to live is over by this client's clock.
    pub(crate) fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.expiry.is_some_and(|expiry| expiry.is_over(now))
    }

    /// Whether it may not be handed out.
    pub(super) fn is_stale(&self) -> bool {
        self.stale_at.is_some_and(|at| at <= Instant::now())
    }
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Held {
    /// Not handed out; no lease runs.
    Stocked(Arc<Item>),
    /// In somebody's hands until the lease ends.
    Out { item: Arc<Item>, since: Instant, until: Instant },
    /// A verdict is on its way to the broker.
    Settling { item: Arc<Item>, since: Instant, until: Instant },
    /// A verdict took effect; remembered until the lease would have ended.
    Settled { until: Instant },
}

/// A message in stock: the highest priority first, then what the broker sent first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stock {
    pub(super) priority: Priority,
    pub(super) key: Reverse<Key>,
}
