//! A message that a consumer has, and how far it is with it.

use std::cmp::Reverse;
use std::sync::Arc;

use polyqueue::{Message, Priority};
use tokio::time::Instant;

use super::receipt::Key;
use crate::wire::Raw;

/// A message that can be handed out: what it says and what is needed to publish it again.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) raw: Raw,
    pub(crate) message: Message,
    pub(crate) attempt: u32,
    /// The last attempt that it may have.
    pub(crate) max_attempts: u32,
    /// Its queue's address: tells a queue from a later one of its name.
    pub(crate) address: Option<Arc<str>>,
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
