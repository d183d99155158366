//! A consumer: the contract's verbs, translated for its queue.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use polyqueue::{
    Certainty, Consumer, Delivery, Error, Extended, Receipt, Result, Settled, Subscription, Verdict,
};

use crate::broker::queue_ref::QueueRef;
use crate::broker::state::consume;
use crate::broker::state::queue_state::QueueState;
use crate::connection::handle::Handle;
use crate::consume::receive::Receive;
use crate::consume::subscription::Subscribed;
use crate::settle::verdicts;

/// A consumer of one queue.
pub(crate) struct MemoryConsumer(Subscribed);

impl MemoryConsumer {
    /// # Errors
    /// `NotFound` when the queue was deleted meanwhile, `Closed` when the handle was closed.
    pub(crate) fn join(handle: &Arc<Handle>, queue: QueueRef, subscription: &Subscription) -> Result<Self> {
        Subscribed::join(handle, queue, subscription).map(Self)
    }

    /// One answer for each of `given`; those that there is no time for were not applied.
    async fn each<G: Sync, A: Send>(
        &self,
        what: &'static str,
        given: &[G],
        act: impl Fn(&QueueRef, &mut QueueState, &G) -> Result<A> + Sync,
    ) -> Result<Vec<Result<A>>> {
        tokio::task::coop::consume_budget().await;
        self.0.handle.lifecycle.check_open()?;
        let one = |state: &mut QueueState, at: usize, given: &G| {
            act(&self.0.queue, state, given).map_err(|error: Error| error.at(at))
        };
        let (mut answers, ended) = self.0.queue.each(self.0.handle.deadline(what), given, one).await;
        if let Err(late) = ended {
            answers.resize_with(given.len(), || Err(late.clone()));
        }
        Ok(answers)
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        tokio::task::coop::consume_budget().await;
        self.0.handle.lifecycle.check_open()?;
        self.0.handle.limits.check_wait(wait)?;
        if max == 0 {
            return Ok(Vec::new());
        }
        Receive::new(&self.0, max, wait).await
    }

    async fn settle(&self, verdicts: &[(Receipt, Verdict)]) -> Result<Vec<Result<Settled>>> {
        let each = self.each("settle", verdicts, |queue, state, (receipt, verdict)| {
            self.0.handle.limits.check_verdict(verdict)?;
            verdicts::settle(queue, state, self.0.id, receipt, verdict)
        });
        let answers = each.await?;
        self.0.handle.events.note_settled(&self.0.name, verdicts, &answers);
        Ok(answers)
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Result<Extended>>> {
        let each = self.each("extend", receipts, |queue, state, receipt| {
            verdicts::extend(queue, state, self.0.id, receipt)
        });
        let answers = each.await?;
        self.0.handle.events.note_extended(&self.0.name, receipts, &answers);
        Ok(answers)
    }

    async fn close(&self) -> Result<()> {
        tokio::task::coop::consume_budget().await;
        let deadline = self.0.handle.deadline("closing a consumer");
        self.0
            .queue
            .call_in_parts(deadline, |queue| consume::close_consumer(queue, self.0.id))
            .await
            .map_err(|_| deadline.error(Certainty::Unknown))
    }
}

impl fmt::Debug for MemoryConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryConsumer")
            .field("queue", &self.0.name)
            .field("id", &self.0.id.0)
            .finish_non_exhaustive()
    }
}
