//! The orderly end of a queue's runner: no new hand-outs, running handlers get until the deadline, the rest is given back.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::later::later;

use super::fetch::{QueueRunner, Receiving, answer};
use super::report::Report;

/// How long dropped handlers are waited for at the stop deadline, and then how long the last verdicts may take.
const GRACE: Duration = Duration::from_secs(1);

/// Ends the runner, by the stop deadline and twice the grace at the latest.
pub(super) async fn drain(mut runner: QueueRunner, mut receiving: Option<Receiving>) -> Report {
    runner.running.begin_no_more();
    let deadline = later(Instant::now(), runner.stop_deadline);
    let consumer = runner.consumer.clone();
    let queue = runner.queue.clone();
    let mut closing: Closing = Some(Box::pin(async move {
        if let Err(error) = consumer.close().await {
            tracing::warn!(name: "worker.close_failed", %queue, %error, "a consumer could not be closed: what it holds comes back at the end of the leases");
        }
    }));
    wind_down(&mut runner, deadline, &mut receiving, &mut closing).await;

    runner.running.abort();
    wind_down(&mut runner, deadline + GRACE, &mut receiving, &mut closing).await;
    if receiving.is_some() {
        tracing::warn!(name: "worker.receive_abandoned", queue = %runner.queue, "a receive did not end in time after the stop");
    }
    runner.running.abandon();
    if timeout_at(deadline + 2 * GRACE, runner.running.finish()).await.is_err() {
        tracing::warn!(name: "worker.stop_overdue", "verdicts or dead letter hooks were not done in time");
    }
    runner.running.report()
}

/// Until nothing runs and nothing is pending, or `limit`.
async fn wind_down(
    runner: &mut QueueRunner,
    limit: Instant,
    receiving: &mut Option<Receiving>,
    closing: &mut Closing,
) {
    while !runner.running.is_idle() || receiving.is_some() || closing.is_some() {
        tokio::select! {
            biased;
            () = runner.running.progress() => {}
            got = answer(receiving) => match got {
                Ok(deliveries) => runner.running.give_back(deliveries),
                Err(error) => tracing::warn!(name: "worker.receive_failed", queue = %runner.queue, %error, "messages could not be fetched"),
            },
            () = close(closing) => {}
            () = sleep_until(limit) => return,
        }
    }
}

/// `close` while it is under way.
type Closing = Option<BoxFuture<'static, ()>>;

async fn close(closing: &mut Closing) {
    let Some(call) = closing else { return std::future::pending().await };
    call.await;
    *closing = None;
}
