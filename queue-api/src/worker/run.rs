//! A worker at work: a runner for each queue, until it is told to stop, one of them cannot go on, or all queues are gone.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{QueueName, Result};

use super::plan::Plan;
use super::report::Report;
use super::served::Served;
use super::tasks::unbroken;
use super::watch::Watch;

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
    let all: Arc<[QueueName]> = queues.as_slice().into();
    let subscribed = Arc::new(AtomicUsize::new(queues.len()));
    for (queue, consumer) in plan.subscribe_all(queues, stop).await? {
        let served = Served {
            plan: plan.clone(),
            queue,
            stop: stop.clone(),
            queues: all.clone(),
            subscribed: subscribed.clone(),
        };
        runners.spawn(served.serve(consumer));
    }
    let _watch = Watch::begin(plan.queue.clone());
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
