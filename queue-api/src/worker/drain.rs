//! The orderly end of a lane: no new hand-outs, running handlers get until the deadline, the rest is given back.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{Delivery, Result};

use super::fetch::{Lane, Receiving, answer, unbroken};

/// How long dropped handlers are waited for at the stop deadline, and then how long the last verdicts may take.
const GRACE: Duration = Duration::from_secs(1);

impl Lane {
    /// Ends the lane, by the stop deadline and twice the grace at the latest.
    pub(super) async fn drain(mut self, mut receiving: Option<Receiving>) {
        let deadline = Instant::now() + self.plan.stop_deadline;
        let consumer = self.consumer.clone();
        let mut closing: Closing = Some(Box::pin(async move { consumer.close().await }));
        self.wind_down(deadline, &mut receiving, &mut closing).await;

        self.overdue = true;
        self.handlers.abort_all();
        self.wind_down(deadline + GRACE, &mut receiving, &mut closing).await;
        if receiving.is_some() {
            tracing::warn!(name: "worker.receive_abandoned", queue = %self.queue);
        }
        // Handlers that block their thread cannot be dropped; their messages are given back all the same.
        let stuck: Vec<_> = self.running.drain().map(|(_, job)| job).collect();
        stuck.into_iter().for_each(|job| self.release(job));
        self.flush();
        self.dismiss(deadline + 2 * GRACE).await;
    }

    /// Until nothing runs and nothing is pending, or `limit`.
    async fn wind_down(&mut self, limit: Instant, receiving: &mut Option<Receiving>, closing: &mut Closing) {
        self.flush();
        while !self.handlers.is_empty() || receiving.is_some() || closing.is_some() {
            tokio::select! {
                biased;
                Some(ended) = self.handlers.join_next_with_id() => self.ended(ended),
                got = answer(receiving) => self.give_back(got),
                closed = close(closing) => self.closed(closed),
                Some(settled) = self.done.recv() => self.unsettled -= settled,
                Some(ended) = self.crew.join_next() => unbroken(ended),
                () = sleep_until(limit) => return,
            }
            self.flush();
        }
    }

    /// What came after the stop was never started: nobody has had an attempt at it.
    fn give_back(&mut self, got: Result<Vec<Delivery>>) {
        match got {
            Ok(deliveries) => {
                for delivery in deliveries {
                    let job = self.accept(delivery);
                    self.release(job);
                }
            }
            Err(error) => tracing::warn!(name: "worker.receive_failed", queue = %self.queue, %error),
        }
    }

    fn closed(&self, closed: Result<()>) {
        if let Err(error) = closed {
            tracing::warn!(name: "worker.close_failed", queue = %self.queue, %error);
        }
    }

    /// Waits for the last verdicts and hooks.
    async fn dismiss(self, limit: Instant) {
        let Self { mut crew, mut done, mut unsettled, rulings, heartbeat, tally, .. } = self;
        heartbeat.abort();
        drop(rulings);
        let all = async {
            while let Some(ended) = crew.join_next().await {
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
}

/// `close` while it is under way.
type Closing = Option<BoxFuture<'static, Result<()>>>;

async fn close(closing: &mut Closing) -> Result<()> {
    let Some(call) = closing else { return std::future::pending().await };
    let closed = call.await;
    *closing = None;
    closed
}
