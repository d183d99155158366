//! The running jobs of one consumer, and the renewal of their leases, which needs no thread of the application.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::background::background_by_the_same_clock;
use crate::{Consumer, Extended, Receipt, Result};

use super::job::Job;
use super::lease::Lease;
use super::pulse::{Pulse, Turning};
use super::slab::Slab;

/// The running jobs of one consumer: their leases are extended as long as they are here.
pub(super) struct Leases {
    consumer: Arc<dyn Consumer>,
    jobs: Mutex<Slab<Job<()>>>,
    /// The kinds of those whose handler has ended since the last beat of the pulse: one of them may be why it is late.
    ended: Mutex<BTreeSet<String>>,
}

impl Leases {
    pub(super) fn new(consumer: Arc<dyn Consumer>) -> Self {
        Self { consumer, jobs: Mutex::default(), ended: Mutex::default() }
    }

    /// The lease of a delivery.
    pub(super) fn begin(&self, receipt: Receipt, until: Instant) -> Lease {
        Lease::new(receipt, Some(Arc::downgrade(&self.consumer)), until)
    }

    /// A job runs, in this place, until [`Leases::end`].
    pub(super) fn add(&self, job: Job<()>) -> usize {
        self.jobs.lock().insert(job)
    }

    /// The job in this place has ended, unless it has before.
    pub(super) fn end(&self, place: usize) -> Option<Job<()>> {
        let job = self.jobs.lock().remove(place)?;
        let (mut ended, kind) = (self.ended.lock(), job.message.kind());
        if !ended.contains(kind) {
            ended.insert(kind.to_owned());
        }
        Some(job)
    }

    /// All that still run end.
    pub(super) fn end_all(&self) -> Vec<Job<()>> {
        self.jobs.lock().drain()
    }

    /// How many run.
    pub(super) fn len(&self) -> usize {
        self.jobs.lock().len()
    }

    /// Extends all leases until the tasks are dropped; unless the application's runtime has not turned for `stall_limit`.
    pub(super) fn renew(self: &Arc<Self>, lease: Duration, stall_limit: Option<Duration>) -> JoinSet<()> {
        let (pulse, third) = (Pulse::new(lease, stall_limit), lease / 3);
        let mut tasks = JoinSet::new();
        let leases = self.clone();
        tasks.spawn(pulse.clone().beat(third, move |late| leases.woke(late, third)));
        tasks.spawn_on(self.clone().keep(third, pulse), &background_by_the_same_clock());
        tasks
    }

    /// The heartbeat: every third of a lease one call for all; after an error again within the third, for a
    /// lease that is not extended in time is lost.
    async fn keep(self: Arc<Self>, third: Duration, pulse: Arc<Pulse>) {
        let (mut pause, mut before) = (third, Turning::Yes);
        loop {
            sleep(pause).await;
            let turning = pulse.turning();
            self.warn(before, turning);
            before = turning;
            let renews = !matches!(turning, Turning::No(_));
            pause = if !renews || self.beat(third).await { third } else { third / 4 };
        }
    }

    /// Once when the application's runtime is given a last time, and once when it is given up.
    fn warn(&self, before: Turning, turning: Turning) {
        let leases = self.len();
        match (before, turning) {
            (Turning::Yes, Turning::Slowly(still)) => {
                tracing::warn!(name: "worker.runtime_stalled", ?still, leases, "the runtime does not turn: is every thread of it blocked?");
            }
            (Turning::Yes | Turning::Slowly(_), Turning::No(still)) => {
                tracing::error!(name: "worker.runtime_given_up", ?still, leases, "the runtime does not turn: its leases are not renewed any more");
            }
            _ => {}
        }
    }

    /// Warns where the application's runtime is so late that its own tasks would have let leases end.
    fn woke(&self, late: Duration, allowed: Duration) {
        let mut kinds = std::mem::take(&mut *self.ended.lock());
        if late <= allowed {
            return;
        }
        kinds.extend(self.jobs.lock().iter().map(|job| job.message.kind().to_owned()));
        if !kinds.is_empty() {
            tracing::warn!(name: "worker.heartbeat_late", ?late, ?kinds, "does a handler of these kinds block its thread? see Worker::on_blocking");
        }
    }

    fn to_extend(&self) -> (Vec<Receipt>, Vec<Lease>) {
        let jobs = self.jobs.lock();
        let leases = jobs.iter().map(|job| &job.lease).filter(|lease| !lease.is_timed_out());
        leases.map(|lease| (lease.receipt().clone(), lease.clone())).unzip()
    }

    /// Whether every lease was answered.
    async fn beat(&self, within: Duration) -> bool {
        let (receipts, leases) = self.to_extend();
        if receipts.is_empty() {
            return true;
        }
        match timeout(within, self.consumer.extend(&receipts)).await {
            Ok(Ok(answers)) => {
                leases.iter().zip(answers).fold(true, |all, (lease, answer)| noted(lease, answer) && all)
            }
            Ok(Err(error)) => {
                tracing::warn!(name: "worker.heartbeat_failed", leases = receipts.len(), %error, "leases could not be extended");
                false
            }
            Err(_) => {
                tracing::warn!(name: "worker.heartbeat_failed", leases = receipts.len(), error = "no answer in time", "leases could not be extended");
                false
            }
        }
    }
}

fn noted(lease: &Lease, answer: Result<Extended>) -> bool {
    match answer {
        Ok(answer) => {
            lease.note(answer);
            true
        }
        Err(error) => {
            tracing::warn!(name: "worker.heartbeat_failed", leases = 1, %error, "leases could not be extended");
            false
        }
    }
}
