//! The leases of one consumer's running jobs, and their renewal, which needs no thread of the application.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::background::background_by_the_same_clock;
use crate::{Consumer, Extended, Message, Receipt, Result};

use super::lease::Lease;
use super::pulse::{Pulse, Turning};
use super::slab::Slab;

/// The leases of one consumer's running jobs.
pub(super) struct Leases {
    consumer: Arc<dyn Consumer>,
    live: Mutex<Slab<(Lease, Arc<Message>)>>,
    /// The kinds of those whose handler has ended since the last beat of the pulse: one of them may be why it is late.
    ended: Mutex<BTreeSet<String>>,
}

impl Leases {
    pub(super) fn new(consumer: Arc<dyn Consumer>) -> Self {
        Self { consumer, live: Mutex::default(), ended: Mutex::default() }
    }

    /// A lease that the heartbeat extends until [`Leases::forget`].
    pub(super) fn begin(&self, receipt: Receipt, until: Instant, message: Arc<Message>) -> Lease {
        let lease = Lease::new(receipt, Some(Arc::downgrade(&self.consumer)), until);
        let place = self.live.lock().insert((lease.clone(), message));
        lease.kept_at(place);
        lease
    }

    pub(super) fn forget(&self, lease: &Lease) {
        if let Some(place) = lease.place() {
            self.live.lock().remove(place);
        }
    }

    /// A handler of this kind has ended.
    pub(super) fn ended(&self, kind: &str) {
        let mut ended = self.ended.lock();
        if !ended.contains(kind) {
            ended.insert(kind.to_owned());
        }
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
        let leases = self.live.lock().len();
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
        kinds.extend(self.live.lock().iter().map(|(_, message)| message.kind().to_owned()));
        if !kinds.is_empty() {
            tracing::warn!(name: "worker.heartbeat_late", ?late, ?kinds, "does a handler of these kinds block its thread? see Worker::on_blocking");
        }
    }

    fn to_extend(&self) -> (Vec<Receipt>, Vec<Lease>) {
        let live = self.live.lock();
        let leases = live.iter().filter(|(lease, _)| !lease.is_timed_out());
        leases.map(|(lease, _)| (lease.receipt().clone(), lease.clone())).unzip()
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
