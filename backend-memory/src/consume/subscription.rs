//! A consumer's place at its queue: what its receives and its verdicts need of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use polyqueue::{Delivery, Error, QueueName, Result, Subscription};

use crate::broker::queue_ref::QueueRef;
use crate::broker::state::consume;
use crate::broker::state::ids::{ConsumerId, HandedOut};
use crate::broker::state::pending::WaitOutcome;
use crate::broker::state::queue_state::QueueState;
use crate::connection::handle::Handle;
use crate::settle::receipt;

/// A consumer's place at its queue; given up when dropped.
pub(crate) struct Subscribed {
    pub(crate) id: ConsumerId,
    pub(crate) queue: QueueRef,
    pub(crate) name: QueueName,
    pub(crate) handle: Arc<Handle>,
}

impl Subscribed {
    /// # Errors
    /// `NotFound` when the queue was deleted meanwhile, `Closed` when the handle was closed.
    pub(crate) fn join(handle: &Arc<Handle>, queue: QueueRef, subscription: &Subscription) -> Result<Self> {
        // One sequence for the process: a receipt of another broker is another consumer's.
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = ConsumerId(IDS.fetch_add(1, Relaxed));
        handle.consumers.lock().insert(id, queue.clone());
        let subscribed = Self { id, queue, name: subscription.queue.clone(), handle: handle.clone() };
        subscribed.queue.hold(|queue, _| {
            subscribed.check_open(queue)?;
            consume::join(queue, id, subscription);
            Ok::<_, Error>(())
        })?;
        Ok(subscribed)
    }

    /// Asked under the queue's lock, so that nobody begins to wait after a close has ended all waits.
    pub(crate) fn check_open(&self, queue: &QueueState) -> Result<()> {
        self.handle.lifecycle.check_open()?;
        if queue.is_deleted() { Err(Error::not_found(self.name.clone())) } else { Ok(()) }
    }

    /// What the end of a wait means to its receive.
    pub(crate) fn answered(&self, outcome: WaitOutcome) -> Result<Vec<HandedOut>> {
        match outcome {
            WaitOutcome::HandedOut(handed) => Ok(handed),
            WaitOutcome::Closed => Err(Error::Closed),
        }
    }

    pub(crate) fn deliver(&self, handed: HandedOut) -> Delivery {
        let lease_until = self.queue.clock().instant(handed.receipt_parts.until);
        let receipt = receipt::receipt(handed.receipt_parts);
        let HandedOut { message, attempt, max_attempts, .. } = handed;
        Delivery::new(self.name.clone(), message, attempt, max_attempts, receipt, lease_until)
    }
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.handle.consumers.lock().remove(&self.id);
        while !self.queue.hold(|queue, _| consume::leave(queue, self.id)) {}
    }
}
