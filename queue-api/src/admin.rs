//! The operating half of the contract: what a console, a command line and an operator need.

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use crate::{Counters, DeadFilter, DeadId, DeadPage, Page, Pattern, QueueName, QueueSpec, Result};

/// Looks after queues. Unknown queues answer [`NotFound`](crate::Error::NotFound), except where said otherwise.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> polyqueue::Result<()> {
/// use polyqueue::{Admin, Purge};
/// # use polyqueue::*;
///
/// # const MAIL: QueueName = QueueName::from_static("mail");
/// # let queue = polyqueue_memory::MemoryQueue::new();
/// # queue.declare(&QueueSpec::new(MAIL)).await?;
/// # queue.publish_one(MAIL, Message::new("hello")).await?;
/// for spec in queue.queues().await? {
///     let stats = queue.stats(&spec.name).await?;
///     println!("{}: {} ready, {} dead, {:?} delayed", spec.name, stats.ready, stats.dead, stats.delayed);
/// }
/// assert_eq!(queue.purge(&MAIL, Purge::Waiting).await?, 1);
/// queue.delete(&MAIL).await?;
/// # Ok(()) }
/// ```
#[async_trait]
pub trait Admin: Send + Sync {
    /// All queues of this namespace, from the broker's own catalogue, by name.
    async fn queues(&self) -> Result<Vec<QueueSpec>>;

    /// Removes a binding. Afterwards no message reaches the queue by it; does nothing where the queue was not bound so.
    async fn unbind(&self, queue: &QueueName, pattern: &Pattern) -> Result<()>;

    /// Removes a queue with all its messages and dead letters. Delayed messages go with it: none reaches a queue of the
    /// same name that is declared later.
    async fn delete(&self, queue: &QueueName) -> Result<()>;

    /// How many messages are where. Applies first what is due (delays, ends of leases, times to live,
    /// the retention of dead letters).
    async fn stats(&self, queue: &QueueName) -> Result<QueueStats>;

    /// Removes messages, answering how many. Those in flight are spared.
    async fn purge(&self, queue: &QueueName, what: Purge) -> Result<u64>;

    /// Dead letters that match, oldest death first. Takes no lease and burns no attempt. What follows a page by its cursor ends
    /// with what was there when the first page was read: a letter that is redriven meanwhile and dies again is not shown again.
    async fn dead_letters(&self, queue: &QueueName, filter: &DeadFilter, page: Page) -> Result<DeadPage>;

    /// Makes dead letters ready again: same id, headers and priority, attempts from 1. Per id: `true` = ready again,
    /// `false` = was not there (any more). After an error it may be repeated.
    async fn redrive(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>>;

    /// Removes dead letters for good. Per id: `true` = removed, `false` = was not there (any more).
    async fn discard(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>>;
}

/// What [`Admin::purge`] removes. Exhaustive: a new kind must break backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// Ready messages, and delayed ones where [`QueueStats::delayed`] is known; elsewhere those are spared.
    Waiting,
    /// Dead letters.
    Dead,
}

/// How many messages of a queue are where. What nobody can know is `None`, never a guess.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QueueStats {
    /// Could be handed out now.
    pub ready: u64,
    /// Dead letters.
    pub dead: u64,
    /// Waiting for their time: delayed, or between retries.
    pub delayed: Option<u64>,
    /// Handed out and not settled.
    pub in_flight: Option<u64>,
    /// How long the oldest ready message has been ready; `None` also when none is.
    pub oldest: Option<Duration>,
    /// What this handle has done.
    pub counters: Counters,
}
