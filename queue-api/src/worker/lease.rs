//! Leases: how long a message is ours, and the heartbeat that extends those of long jobs.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::{Consumer, Extended, Message, Receipt, Result};

/// The lease of a job that no consumer handed out.
const DETACHED: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a message is ours. The worker extends it by itself; clones share it.
#[derive(Clone)]
pub struct Lease(Arc<Inner>);

struct Inner {
    receipt: Receipt,
    /// Weak: a lease that somebody keeps does not keep the consumer, and with it what the broker lent it.
    consumer: Option<Weak<dyn Consumer>>,
    until: Mutex<Instant>,
    ended: CancellationToken,
}

impl Lease {
    fn new(receipt: Receipt, consumer: Option<Weak<dyn Consumer>>, until: Instant) -> Self {
        Self(Arc::new(Inner { receipt, consumer, until: Mutex::new(until), ended: CancellationToken::new() }))
    }

    pub(super) fn detached() -> Self {
        Self::new(Receipt::new(""), None, Instant::now() + DETACHED)
    }

    /// Completes when the message is not ours any more: the broker said so, or the end of the lease passed without an
    /// extension. Then somebody else may be handed it, and the handler's own future has been dropped; this is for
    /// what the handler has started elsewhere. When a verdict ended the job it completes with the lease's last end.
    pub async fn lost(&self) {
        tokio::select! {
            biased;
            () = self.0.ended.cancelled() => {}
            () = self.passed() => {}
        }
    }

    async fn passed(&self) {
        while !self.is_over() {
            sleep_until(self.until()).await;
        }
    }

    /// Whether the message is not ours any more: what [`Lease::lost`] awaits, for code that cannot await.
    pub fn is_over(&self) -> bool {
        self.0.ended.is_cancelled() || Instant::now() >= self.until()
    }

    /// The end of the lease, as it is known now.
    pub fn until(&self) -> Instant {
        *self.0.until.lock()
    }

    /// Asks for a new full lease, from now. The worker's heartbeat does so every third of a lease; this is for a handler
    /// that is about to block its thread.
    ///
    /// # Errors
    /// Those of the broker; the lease is what it was.
    pub async fn extend(&self) -> Result<Extended> {
        let Some(consumer) = &self.0.consumer else {
            return Ok(self.note(Extended::Until(Instant::now() + DETACHED)));
        };
        let Some(consumer) = consumer.upgrade() else {
            return Ok(self.note(Extended::LeaseLost));
        };
        let answers = consumer.extend(std::slice::from_ref(&self.0.receipt)).await?;
        let answer = answers.into_iter().next().unwrap_or(Ok(Extended::LeaseLost))?;
        Ok(self.note(answer))
    }

    pub(super) fn receipt(&self) -> &Receipt {
        &self.0.receipt
    }

    /// The message is not ours any more.
    pub(super) fn end(&self) {
        self.0.ended.cancel();
    }

    fn note(&self, answer: Extended) -> Extended {
        match answer {
            Extended::Until(until) => *self.0.until.lock() = until,
            Extended::LeaseLost => self.end(),
        }
        answer
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("until", &self.until()).field("over", &self.is_over()).finish()
    }
}

/// The leases of one consumer's running jobs.
pub(super) struct Leases {
    consumer: Arc<dyn Consumer>,
    live: Mutex<HashMap<Receipt, (Lease, Arc<Message>)>>,
    /// The kinds of those whose handler has ended since the last heartbeat: one of them may be why it is late.
    ended: Mutex<BTreeSet<String>>,
}

impl Leases {
    pub(super) fn new(consumer: Arc<dyn Consumer>) -> Self {
        Self { consumer, live: Mutex::default(), ended: Mutex::default() }
    }

    /// A lease that the heartbeat extends until [`Leases::forget`].
    pub(super) fn begin(&self, receipt: Receipt, until: Instant, message: Arc<Message>) -> Lease {
        let lease = Lease::new(receipt.clone(), Some(Arc::downgrade(&self.consumer)), until);
        self.live.lock().insert(receipt, (lease.clone(), message));
        lease
    }

    pub(super) fn forget(&self, lease: &Lease) {
        self.live.lock().remove(lease.receipt());
    }

    /// A handler of this kind has ended.
    pub(super) fn ended(&self, kind: &str) {
        let mut ended = self.ended.lock();
        if !ended.contains(kind) {
            ended.insert(kind.to_owned());
        }
    }

    /// The heartbeat: every third of `lease` one call for all; after an error again within the third, for a
    /// lease that is not extended in time is lost.
    pub(super) async fn keep(self: Arc<Self>, lease: Duration) {
        let third = lease / 3;
        let mut pause = third;
        loop {
            let due = Instant::now() + pause;
            sleep_until(due).await;
            self.woke(due.elapsed(), third);
            pause = if self.beat(third).await { third } else { third / 4 };
        }
    }

    /// Warns where the heartbeat is so late that leases end. It has a task of its own, so nobody let it run meanwhile.
    fn woke(&self, late: Duration, allowed: Duration) {
        let mut kinds = std::mem::take(&mut *self.ended.lock());
        if late <= allowed {
            return;
        }
        kinds.extend(self.live.lock().values().map(|(_, message)| message.kind().to_owned()));
        if !kinds.is_empty() {
            tracing::warn!(name: "worker.heartbeat_late", ?late, ?kinds, "does a handler of these kinds block its thread? see Worker::on_blocking");
        }
    }

    /// Whether every lease was answered.
    async fn beat(&self, within: Duration) -> bool {
        let (receipts, leases): (Vec<Receipt>, Vec<Lease>) =
            self.live.lock().iter().map(|(receipt, (lease, _))| (receipt.clone(), lease.clone())).unzip();
        if receipts.is_empty() {
            return true;
        }
        match timeout(within, self.consumer.extend(&receipts)).await {
            Ok(Ok(answers)) => {
                leases.iter().zip(answers).fold(true, |all, (lease, answer)| noted(lease, answer) && all)
            }
            Ok(Err(error)) => {
                tracing::warn!(name: "worker.heartbeat_failed", leases = receipts.len(), %error);
                false
            }
            Err(_) => {
                tracing::warn!(name: "worker.heartbeat_failed", leases = receipts.len(), error = "no answer in time");
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
            tracing::warn!(name: "worker.heartbeat_failed", leases = 1, %error);
            false
        }
    }
}
