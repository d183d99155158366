//! One of the worker's queues, served again each time it is deleted and declared, until all of them are gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{Consumer, Error, QueueName, Result};

use super::drain::drain;
use super::fetch::QueueRunner;
use super::plan::Plan;
use super::report::Report;
use super::retry_wait::retry_wait;

/// One of the worker's queues.
pub(super) struct Served {
    pub(super) plan: Arc<Plan>,
    pub(super) queue: QueueName,
    pub(super) stop: CancellationToken,
    /// All queues of the worker.
    pub(super) queues: Arc<[QueueName]>,
    /// How many of them are subscribed to.
    pub(super) subscribed: Arc<AtomicUsize>,
}

impl Served {
    /// Until the stop, an error that does not pass by itself, or the end of the last of the worker's queues.
    pub(super) async fn serve(self, mut consumer: Arc<dyn Consumer>) -> (Result<()>, Report) {
        let mut report = Report::default();
        loop {
            let runner = QueueRunner::new(self.plan.clone(), self.queue.clone(), consumer);
            let (ended, part) = run_queue(runner, self.stop.clone()).await;
            report.add(part);
            let Err(gone @ Error::NotFound(_)) = ended else { return (ended, report) };
            self.subscribed.fetch_sub(1, SeqCst);
            match self.subscribe_again(gone).await {
                Ok(Some(again)) => consumer = again,
                Ok(None) => return (Ok(()), report),
                Err(error) => return (Err(error), report),
            }
            self.subscribed.fetch_add(1, SeqCst);
        }
    }

    /// Waits until the queue is there again; `None` when the stop comes first, `gone` when all queues are gone.
    async fn subscribe_again(&self, gone: Error) -> Result<Option<Arc<dyn Consumer>>> {
        let Self { plan, queue, stop, .. } = self;
        if self.all_are_gone().await {
            return Err(gone);
        }
        tracing::warn!(name: "worker.queue_gone", %queue, "it was deleted, and is served again when it is declared");
        for failures in 1.. {
            tokio::select! {
                () = sleep(retry_wait(&plan.executor.jitter, failures)) => {}
                () = stop.cancelled() => break,
            }
            match plan.subscribe(queue, stop).await {
                Ok(consumer) => {
                    tracing::info!(name: "worker.queue_back", %queue, "it is there again, and served");
                    return Ok(Some(consumer));
                }
                Err(Error::NotFound(_)) if self.all_are_gone().await => return Err(gone),
                Err(Error::NotFound(_)) => {}
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// What is not subscribed to may have been declared again: each is asked for.
    async fn all_are_gone(&self) -> bool {
        if self.subscribed.load(SeqCst) > 0 {
            return false;
        }
        let none_is_there = async {
            for queue in &*self.queues {
                if !matches!(self.plan.queue.stats(queue).await, Err(Error::NotFound(_))) {
                    return false;
                }
            }
            true
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            gone = none_is_there => gone,
        }
    }
}

/// Until `stop`, or an error that does not pass by itself.
async fn run_queue(mut runner: QueueRunner, stop: CancellationToken) -> (Result<()>, Report) {
    let mut receiving = None;
    let ended = runner.fetch(&stop, &mut receiving).await;
    (ended, drain(runner, receiving).await)
}
