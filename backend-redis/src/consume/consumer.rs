//! A consumer: receives wait, a task fetches for them, verdicts go their own way.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::backend::{CloseReason, background};
use polyqueue::{
    Certainty, Consumer, Delivery, Error, Extended, Receipt, Result, Settled, Subscription, Verdict,
    async_trait,
};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::connection::handle::Handle;
use crate::consume::fetcher;
use crate::consume::state::ConsumerState;
use crate::settle::settlers::QueueSettler;
use crate::topology::revival::Revival;

/// A reader of one queue.
pub(crate) struct RedisConsumer {
    state: Arc<ConsumerState>,
    ended: watch::Receiver<bool>,
}

impl RedisConsumer {
    /// Begins to read; its task ends with it.
    pub(crate) fn start(
        handle: &Arc<Handle>,
        settler: Arc<QueueSettler>,
        revival: Arc<Revival>,
        subscription: Subscription,
    ) -> Self {
        let state = Arc::new(ConsumerState::new(handle, settler, revival, subscription));
        handle.watch.add(&state);
        let (end, ended) = watch::channel(false);
        let task = state.clone();
        tokio::spawn(async move {
            let closing = async {
                task.handle.lifecycle.closing().await;
                task.pending.close(CloseReason::Handle);
            };
            let mut fetching = pin!(fetcher::run(task.clone()));
            tokio::select! {
                () = &mut fetching => {}
                () = closing => fetching.await,
            }
            end.send_replace(true);
        });
        Self { state, ended }
    }
}

/// What a receive was filled with and dropped goes back, also when the task that would see to it has ended.
struct Returned<'a>(&'a Arc<ConsumerState>);

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        let returned = self.0.pending.returned();
        if !returned.is_empty() {
            let state = self.0.clone();
            background().spawn(async move { state.give_back(&returned).await });
        }
    }
}

#[async_trait]
impl Consumer for RedisConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let state = &self.state;
        state.handle.check_open()?;
        state.handle.info.limits.check_wait(wait)?;
        if max == 0 {
            return Ok(Vec::new());
        }
        let _returned = Returned(state);
        match state.pending.receive(max, wait).await {
            Err(late @ Error::Timeout { .. }) => Err(state.handle.node.trouble().unwrap_or(late)),
            outcome => outcome,
        }
    }

    async fn settle(&self, verdicts: &[(Receipt, Verdict)]) -> Result<Vec<Result<Settled>>> {
        self.state.handle.check_open()?;
        self.state.note_verdict();
        let answers = self.state.verdicts.settle(verdicts).await;
        self.state.handle.events.note_settled(&self.state.queue, verdicts, &answers);
        Ok(answers)
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Result<Extended>>> {
        self.state.handle.check_open()?;
        let mut answers = Vec::with_capacity(receipts.len());
        for chunk in receipts.chunks(100) {
            answers.extend(self.state.verdicts.extend(chunk).await);
        }
        self.state.handle.events.note_extended(&self.state.queue, receipts, &answers);
        Ok(answers)
    }

    async fn close(&self) -> Result<()> {
        self.state.pending.close(CloseReason::Consumer);
        let mut ended = self.ended.clone();
        let deadline = self.state.handle.deadline;
        let late = || Error::timeout("closing a consumer", deadline, Certainty::Unknown);
        timeout(deadline, ended.wait_for(|ended| *ended)).await.map(drop).map_err(|_| late())
    }
}

impl Drop for RedisConsumer {
    fn drop(&mut self) {
        self.state.pending.close(CloseReason::Consumer);
    }
}

impl fmt::Debug for RedisConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConsumer")
            .field("queue", &self.state.queue)
            .field("consumer", &self.state.subscription.consumer)
            .finish_non_exhaustive()
    }
}
