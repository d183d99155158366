//! A worker at work: a runner for each queue, until it is told to stop, one of them cannot go on, or all queues are gone.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Consumer, Error, QueueName, Result};

use super::drain::drain;
use super::fetch::QueueRunner;
use super::plan::Plan;
use super::report::Report;
use super::tasks::unbroken;

/// Until `stop` completes. Dropping it drops every task that it started.
pub(super) async fn run(
    plan: Plan,
    queues: Vec<QueueName>,
    stop: impl Future + Send + 'static,
) -> Result<Report> {
    plan.check(&queues)?;
    let token = CancellationToken::new();
    let signal = async {
        stop.await;
        token.cancel();
        pending::<Infallible>().await
    };
    tokio::select! {
        biased;
        never = signal => match never {},
        report = work(Arc::new(plan), queues, &token) => report,
    }
}

async fn work(plan: Arc<Plan>, queues: Vec<QueueName>, stop: &CancellationToken) -> Result<Report> {
    let mut report = Report::default();
    let mut runners = JoinSet::new();
    let there = Arc::new(AtomicUsize::new(queues.len()));
    for (queue, consumer) in plan.subscribe_all(queues, stop).await? {
        let served = Served { plan: plan.clone(), queue, stop: stop.clone(), there: there.clone() };
        runners.spawn(served.serve(consumer));
    }
    let mut outcome = Ok(());
    while let Some(ended) = runners.join_next().await {
        let (ended, part) = ended.unwrap_or_else(|error| {
            unbroken(Err(error));
            (Ok(()), Report::default())
        });
        report.add(part);
        // Something is wrong with more than one queue: the others stop as well.
        if ended.is_err() {
            stop.cancel();
        }
        outcome = outcome.and(ended);
    }
    outcome.map(|()| report)
}

/// One of the worker's queues.
struct Served {
    plan: Arc<Plan>,
    queue: QueueName,
    stop: CancellationToken,
    /// How many of the worker's queues are there.
    there: Arc<AtomicUsize>,
}

impl Served {
    /// Until the stop, an error that does not pass by itself, or the end of the last of the worker's queues.
    async fn serve(self, mut consumer: Arc<dyn Consumer>) -> (Result<()>, Report) {
        let mut report = Report::default();
        loop {
            let runner = QueueRunner::new(self.plan.clone(), self.queue.clone(), consumer);
            let (ended, part) = run_queue(runner, self.stop.clone()).await;
            report.add(part);
            let last = || self.there.fetch_sub(1, SeqCst) == 1;
            match ended {
                Err(Error::NotFound(_)) if !last() => {}
                ended => return (ended, report),
            }
            match self.plan.subscribe_again(&self.queue, &self.stop).await {
                Ok(Some(again)) => consumer = again,
                Ok(None) => return (Ok(()), report),
                Err(error) => return (Err(error), report),
            }
            self.there.fetch_add(1, SeqCst);
        }
    }
}

/// Until `stop`, or an error that does not pass by itself.
async fn run_queue(mut runner: QueueRunner, stop: CancellationToken) -> (Result<()>, Report) {
    let mut receiving = None;
    let ended = runner.fetch(&stop, &mut receiving).await;
    (ended, drain(runner, receiving).await)
}
