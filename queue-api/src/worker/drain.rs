//! The orderly end of a queue's runner: no new hand-outs, running handlers get until the deadline, the rest is given back.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{Delivery, Result};

use super::fetch::{QueueRunner, Receiving, answer};
use super::tasks::unbroken;

/// How long dropped handlers are waited for at the stop deadline, and then how long the last verdicts may take.
const GRACE: Duration = Duration::from_secs(1);

/// Ends the runner, by the stop deadline and twice the grace at the latest.
pub(super) async fn drain(mut runner: QueueRunner, mut receiving: Option<Receiving>) {
    let deadline = Instant::now() + runner.plan.stop_deadline;
    let consumer = runner.consumer.clone();
    let mut closing: Closing = Some(Box::pin(async move { consumer.close().await }));
    wind_down(&mut runner, deadline, &mut receiving, &mut closing).await;

    runner.overdue = true;
    runner.handlers.abort_all();
    wind_down(&mut runner, deadline + GRACE, &mut receiving, &mut closing).await;
    if receiving.is_some() {
        tracing::warn!(name: "worker.receive_abandoned", queue = %runner.queue);
    }
    // Handlers that block their thread cannot be dropped; their messages are given back all the same.
    let stuck: Vec<_> = runner.running.drain().map(|(_, job)| job).collect();
    stuck.into_iter().for_each(|job| runner.release(job));
    runner.flush();
    dismiss(runner, deadline + 2 * GRACE).await;
}

/// Until nothing runs and nothing is pending, or `limit`.
async fn wind_down(
    runner: &mut QueueRunner,
    limit: Instant,
    receiving: &mut Option<Receiving>,
    closing: &mut Closing,
) {
    runner.flush();
    while !runner.handlers.is_empty() || receiving.is_some() || closing.is_some() {
        tokio::select! {
            biased;
            Some(ended) = runner.handlers.join_next_with_id() => runner.ended(ended),
            got = answer(receiving) => give_back(runner, got),
            ended = close(closing) => closed(runner, ended),
            Some(settled) = runner.done.recv() => runner.unsettled -= settled,
            Some(ended) = runner.tasks.join_next() => unbroken(ended),
            () = sleep_until(limit) => return,
        }
        runner.flush();
    }
}

/// What came after the stop was never started: nobody has had an attempt at it.
fn give_back(runner: &mut QueueRunner, got: Result<Vec<Delivery>>) {
    match got {
        Ok(deliveries) => {
            for delivery in deliveries {
                let job = runner.accept(delivery);
                runner.release(job);
            }
        }
        Err(error) => tracing::warn!(name: "worker.receive_failed", queue = %runner.queue, %error),
    }
}

fn closed(runner: &QueueRunner, closed: Result<()>) {
    if let Err(error) = closed {
        tracing::warn!(name: "worker.close_failed", queue = %runner.queue, %error);
    }
}

/// Waits for the last verdicts and hooks.
async fn dismiss(runner: QueueRunner, limit: Instant) {
    let QueueRunner { mut tasks, mut done, mut unsettled, verdicts, heartbeat, tally, .. } = runner;
    heartbeat.abort();
    drop(verdicts);
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            unbroken(ended);
        }
    };
    if timeout_at(limit, all).await.is_err() {
        tracing::warn!(name: "worker.stop_overdue", "verdicts or dead letter hooks were not done in time");
    }
    while let Ok(settled) = done.try_recv() {
        unsettled -= settled;
    }
    tally.lock().unsettled += unsettled as u64;
}

/// `close` while it is under way.
type Closing = Option<BoxFuture<'static, Result<()>>>;

async fn close(closing: &mut Closing) -> Result<()> {
    let Some(call) = closing else { return std::future::pending().await };
    let closed = call.await;
    *closing = None;
    closed
}
