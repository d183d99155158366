//! A message that a consumer has.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use polyqueue::Message;
use tokio::time::Instant;

use crate::settle::replacement::Replacement;
use crate::wire::expiry::Expiry;
use crate::wire::properties::Raw;

/// The life of its queue that a message is of: tells a queue from a later one of its name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    /// Its address: the one by which the message came or, where it came by name, the one that is known of its queue.
    pub(crate) address: Option<Arc<str>>,
    /// Something has come back that was published to it: copies go by name.
    pub(crate) is_dead_end: bool,
}

impl Life {
    /// Where copies go; `None` is by name.
    pub(crate) fn way(&self) -> Option<&Arc<str>> {
        self.address.as_ref().filter(|_| !self.is_dead_end)
    }
}

/// A message that can be handed out: what it says and what is needed to publish it again.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) raw: Raw,
    pub(crate) message: Message,
    /// When it came to us.
    pub(crate) came: Instant,
    pub(crate) attempt: u32,
    /// The last attempt that it may have.
    pub(crate) max_attempts: u32,
    /// Its time to live, when it has one.
    pub(crate) expiry: Option<Expiry>,
    /// From when on it may not be handed out.
    pub(crate) stale_at: Option<Instant>,
    /// The life of its queue that it is of.
    pub(crate) life: Life,
    /// What takes its place, while the broker has not answered.
    pub(crate) replacement: Replacement,
}

impl Fetched {
    /// Whether its time to live is over by this client's clock.
    pub(crate) fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.expiry.is_some_and(|expiry| expiry.is_over(now))
    }

    /// Whether it may not be handed out.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale_at.is_some_and(|at| at <= Instant::now())
    }
}
