//! A history in the order in which rules ask for it: by message and by queue.

mod holds;
mod life;
mod line;
pub(super) mod read;
mod routes;
mod span;

use std::collections::BTreeMap;

use polyqueue::{MessageId, QueueName, ReplyAddress};

pub(super) use self::holds::follows;
pub(super) use self::life::{Fate, Given, Hold, Life, Publish, Seen};
pub(super) use self::line::{Line, Receive};
use crate::history::Stamp;

/// A history, sorted by message and by queue.
#[derive(Debug, Default)]
pub(super) struct View<'a> {
    pub(super) lives: BTreeMap<(&'a QueueName, &'a MessageId), Life<'a>>,
    pub(super) queues: BTreeMap<&'a QueueName, Line<'a>>,
    pub(super) inboxes: BTreeMap<(&'a ReplyAddress, &'a MessageId), Reply>,
    /// Messages that came with a receipt which their consumer had seen before.
    pub(super) reused: Vec<(&'a QueueName, &'a MessageId)>,
    /// From here on effects may be hidden.
    fault: Option<u64>,
    pub(super) outsiders: bool,
}

/// How often one message was sent to one inbox, and how often it came.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) sent: usize,
    pub(super) refused: usize,
    pub(super) came: usize,
}

impl<'a> View<'a> {
    /// Whether everything that happened up to that moment is in the history.
    pub(super) fn trusts(&self, moment: Stamp) -> bool {
        self.fault.is_none_or(|fault| moment.seq < fault)
    }

    /// Whether the whole history can be trusted.
    pub(super) fn trusts_all(&self) -> bool {
        self.fault.is_none()
    }

    pub(super) fn line(&self, queue: &QueueName) -> &Line<'a> {
        // Every life was made together with its queue's line.
        &self.queues[queue]
    }
}
