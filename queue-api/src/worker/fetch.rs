//! One queue's runner: fetches while there is room, and hands what came to the table of running jobs.

use std::future::pending;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::poll;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backend::Jitter;
use crate::{Consumer, Delivery, Error, QueueName, Result};

use super::plan::Plan;
use super::retry_wait::retry_wait;
use super::running::RunningJobs;
use super::tasks::until;

/// How long one `receive` waits for a message before it is called again.
const WAIT: Duration = Duration::from_secs(600);
/// A `receive` that is pending.
pub(super) type Receiving = BoxFuture<'static, Result<Vec<Delivery>>>;

/// One queue: its consumer, and the jobs that it brought.
pub(super) struct QueueRunner {
    pub(super) queue: QueueName,
    pub(super) consumer: Arc<dyn Consumer>,
    pub(super) stop_deadline: Duration,
    pub(super) running: RunningJobs,
    jitter: Arc<Jitter>,
    failures: u32,
    resume: Option<Instant>,
}

impl QueueRunner {
    pub(super) fn new(plan: Arc<Plan>, queue: QueueName, consumer: Arc<dyn Consumer>) -> Self {
        let stop_deadline = plan.stop_deadline;
        let jitter = plan.executor.jitter.clone();
        let running = RunningJobs::new(plan, consumer.clone());
        Self { queue, consumer, stop_deadline, running, jitter, failures: 0, resume: None }
    }

    /// Until `stop`, or an error that does not pass by itself; `receiving` is the call that was pending then.
    pub(super) async fn fetch(
        &mut self,
        stop: &CancellationToken,
        receiving: &mut Option<Receiving>,
    ) -> Result<()> {
        while !stop.is_cancelled() {
            // Before the next verdicts are sent: a broker that pushes sends the next message when it has them, and somebody
            // must be there to take the most urgent one.
            if let Some(got) = self.call(receiving).await {
                self.breathe(&got);
                self.received(got)?;
                continue;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = self.running.progress() => {}
                got = answer(receiving) => self.received(got)?,
                () = until(self.resume) => self.resume = None,
            }
        }
        Ok(())
    }

    /// Calls `receive` for the free slots unless a call is pending; the answer, when it came at once.
    async fn call(&mut self, receiving: &mut Option<Receiving>) -> Option<Result<Vec<Delivery>>> {
        let room = self.running.room();
        self.resume = self.resume.or_else(|| self.running.paused_until());
        if receiving.is_some() || self.resume.is_some() || room == 0 {
            return None;
        }
        let consumer = self.consumer.clone();
        let call = receiving.insert(Box::pin(async move { consumer.receive(room, WAIT).await }));
        match poll!(call) {
            Poll::Ready(got) => {
                *receiving = None;
                Some(got)
            }
            Poll::Pending => None,
        }
    }

    /// Nothing, and at once: not what was asked for, and no reason to spin.
    fn breathe(&mut self, got: &Result<Vec<Delivery>>) {
        if got.as_ref().is_ok_and(Vec::is_empty) {
            self.resume = Some(Instant::now() + retry_wait(&self.jitter, 1));
        }
    }

    fn received(&mut self, got: Result<Vec<Delivery>>) -> Result<()> {
        match got {
            Ok(deliveries) => {
                self.failures = 0;
                self.running.start(deliveries);
                Ok(())
            }
            Err(error) if error.is_transient() => {
                self.failures = self.failures.saturating_add(1);
                let wait = retry_wait(&self.jitter, self.failures);
                self.resume = Some(Instant::now() + wait);
                tracing::warn!(name: "worker.receive_failed", queue = %self.queue, ?wait, %error, "messages could not be fetched, and are tried again");
                Ok(())
            }
            // A queue that is gone may come back.
            Err(error @ Error::NotFound(_)) => Err(error),
            Err(error) => {
                tracing::error!(name: "worker.receive_failed", queue = %self.queue, %error, "messages could not be fetched");
                Err(error)
            }
        }
    }
}

/// The answer of the pending call; for ever when none is pending.
pub(super) async fn answer(receiving: &mut Option<Receiving>) -> Result<Vec<Delivery>> {
    let Some(call) = receiving else { return pending().await };
    let got = call.await;
    *receiving = None;
    got
}
