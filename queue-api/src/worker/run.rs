//! A worker at work: a runner for each queue, until it is told to stop or one of them cannot go on.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{QueueName, Result};

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
    for (queue, consumer) in plan.subscribe_all(queues, stop).await? {
        let runner = QueueRunner::new(plan.clone(), queue, consumer);
        runners.spawn(run_queue(runner, stop.clone()));
    }
    let mut outcome = Ok(());
    while let Some(ended) = runners.join_next().await {
        let (ended, part) = ended.unwrap_or_else(|error| {
            unbroken(Err(error));
            (Ok(()), Report::default())
        });
        report.add(part);
        // One queue less is not the worker that was asked for: the others stop as well.
        if ended.is_err() {
            stop.cancel();
        }
        outcome = outcome.and(ended);
    }
    outcome.map(|()| report)
}

/// Until `stop`, or an error that does not pass by itself.
async fn run_queue(mut runner: QueueRunner, stop: CancellationToken) -> (Result<()>, Report) {
    let mut receiving = None;
    let ended = runner.fetch(&stop, &mut receiving).await;
    (ended, drain(runner, receiving).await)
}
