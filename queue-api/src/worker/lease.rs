//! A lease: how long a message is ours.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::later::later;
use crate::{Consumer, Extended, Receipt, Result};

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
    /// When the job has had its time: it is not extended any more.
    timeout: OnceLock<Instant>,
    is_ended: AtomicBool,
    end: Notify,
}

impl Lease {
    pub(super) fn new(receipt: Receipt, consumer: Option<Weak<dyn Consumer>>, until: Instant) -> Self {
        Self(Arc::new(Inner {
            receipt,
            consumer,
            until: Mutex::new(until),
            timeout: OnceLock::new(),
            is_ended: AtomicBool::new(false),
            end: Notify::new(),
        }))
    }

    pub(super) fn detached() -> Self {
        Self::new(Receipt::new(""), None, Instant::now() + DETACHED)
    }

    /// Completes when the message is not ours any more: the broker said so, or the end of the lease passed without an
    /// extension. Then somebody else may be handed it, and the handler's own future has been dropped; this is for
    /// what the handler has started elsewhere. When a verdict ended the job it completes with the lease's last end.
    pub async fn lost(&self) {
        let ended = self.0.end.notified();
        if self.0.is_ended.load(Acquire) {
            return;
        }
        tokio::select! {
            biased;
            () = ended => {}
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
        self.0.is_ended.load(Acquire) || Instant::now() >= self.until()
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

    /// The job begins, and has so long.
    pub(super) fn begin_timeout(&self, after: Duration) {
        // A job begins once.
        let _ = self.0.timeout.set(later(Instant::now(), after));
    }

    /// Whether the job has had its time, so that the lease is to end.
    pub(super) fn is_timed_out(&self) -> bool {
        self.0.timeout.get().is_some_and(|end| Instant::now() >= *end)
    }

    /// The message is not ours any more.
    pub(super) fn end(&self) {
        self.0.is_ended.store(true, Release);
        self.0.end.notify_waiters();
    }

    pub(super) fn note(&self, answer: Extended) -> Extended {
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
