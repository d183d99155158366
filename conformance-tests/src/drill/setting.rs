//! What all producers and consumers of a drill share.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{ConnectOptions, Queue, QueueName};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::journal::Journal;
use super::site::Site;

/// How long a message is its holder's.
pub(super) const LEASE: Duration = Duration::from_secs(2);
/// Between two publishes of one producer, and after what failed.
pub(super) const PACE: Duration = Duration::from_millis(50);
/// One queue for so many consumers.
const CONSUMERS_OF_A_QUEUE: usize = 2;

/// What one client is, and its place in the drill.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) role: Role,
    /// Which of those with its role.
    pub(super) nth: usize,
    /// How often it has been started anew.
    pub(super) life: u64,
    pub(super) namespace: String,
    pub(super) queues: usize,
    /// Where it connects to; empty: beside all links.
    pub(super) url: String,
    pub(super) seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    Producer,
    Consumer,
}

impl Place {
    /// A handle for it, as soon as one can be had; `None` when it is told to end before.
    pub(super) async fn open(
        &self,
        site: &dyn Site,
        journal: &Journal,
        ended: &CancellationToken,
    ) -> Option<Arc<dyn Queue>> {
        loop {
            let options = ConnectOptions::new(self.url.clone()).namespace(self.namespace.clone());
            let opened = tokio::select! {
                opened = site.open(options) => opened,
                () = ended.cancelled() => return None,
            };
            match opened {
                Ok(queue) => return Some(queue),
                Err(error) => journal.note_unless_passing("connect", &error),
            }
            sleep(PACE).await;
        }
    }

    /// Which queue it consumes.
    pub(super) fn own_queue(&self) -> usize {
        self.nth % self.queues
    }
}

pub(super) fn queues_for(consumers: usize) -> usize {
    consumers.div_ceil(CONSUMERS_OF_A_QUEUE).max(1)
}

pub(super) fn queue_name(nth: usize) -> polyqueue::Result<QueueName> {
    Ok(QueueName::new(format!("drill-{nth}"))?)
}
