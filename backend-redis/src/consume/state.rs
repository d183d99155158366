//! What a consumer and its task share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use polyqueue::backend::{Deadline, PendingReceives};
use polyqueue::{Certainty, Delivery, QueueName, Result, Subscription};
use tokio::time::Instant;

use crate::connection::handle::Handle;
use crate::connection::notifier::Signal;
use crate::consume::claim::{Claimed, Clock, Leased, Wanted};
use crate::consume::pushed::Pushed;
use crate::settle::batch::LeaseVerdict;
use crate::settle::settlers::QueueSettler;
use crate::settle::verdicts::Verdicts;
use crate::wire::names::QueueKeys;
use crate::wire::reply::Reply;
use crate::wire::request::Request;
use crate::wire::time::millis;

/// What a consumer and its task share.
pub(crate) struct ConsumerState {
    pub(crate) handle: Arc<Handle>,
    pub(crate) queue: QueueName,
    pub(crate) keys: QueueKeys,
    pub(crate) signal: Arc<Signal>,
    pub(crate) pending: PendingReceives<Delivery>,
    pub(crate) verdicts: Verdicts,
    pub(crate) subscription: Subscription,
    number: u64,
    /// Where a publisher finds us.
    waiter: String,
    claims: AtomicU64,
    verdict_given: AtomicBool,
}

impl ConsumerState {
    pub(crate) fn new(handle: &Arc<Handle>, settler: Arc<QueueSettler>, subscription: Subscription) -> Self {
        let (number, signal) = handle.notifier.add();
        let holder = format!("{}-{number}", handle.tag);
        let leased =
            format!("{}|{}|{}", millis(subscription.lease), subscription.max_attempts, subscription.consumer);
        Self {
            handle: handle.clone(),
            queue: settler.queue.clone(),
            keys: settler.keys.clone(),
            signal,
            pending: PendingReceives::new(handle.deadline, Certainty::Unknown),
            verdicts: Verdicts::new(handle.clone(), settler, holder, &subscription),
            number,
            waiter: format!("{}|{leased}", handle.waiter(number)),
            subscription,
            claims: AtomicU64::new(0),
            verdict_given: AtomicBool::new(false),
        }
    }

    /// A verdict is given: the task, which may have waited for one, looks again.
    pub(crate) fn note_verdict(&self) {
        if !self.verdict_given.swap(true, Ordering::AcqRel) {
            self.signal.nudge();
        }
    }

    /// Waits no longer, as far as publishers know. Answers whether it still did: else somebody has just woken it, or given it
    /// a message.
    pub(crate) async fn leave(&self, limit: Deadline) -> bool {
        let mut request = Request::plain("ZREM");
        request.arg(self.keys.waiters()).arg(&self.waiter);
        self.handle.node.call(request, limit).await.is_ok_and(|answer| answer.reply == Reply::Number(1))
    }

    /// Nobody is heard any more.
    pub(crate) fn stop_listening(&self) {
        self.handle.notifier.remove(self.number);
    }

    /// Whether a verdict was given since it was last forgotten.
    pub(crate) fn verdict_given(&self) -> bool {
        self.verdict_given.load(Ordering::Acquire)
    }

    pub(crate) fn forget_verdict(&self) {
        self.verdict_given.store(false, Ordering::Release);
    }

    /// What the server gave, from when on by its clock, as it is handed out.
    pub(crate) async fn accept(&self, pushed: Vec<Pushed>, clock: Clock) -> Vec<Delivery> {
        let lease = self.subscription.lease;
        let leased = pushed.into_iter().map(|pushed| {
            let until = clock.earliest(pushed.at) + lease;
            pushed.until(until)
        });
        self.readable(leased.collect()).await
    }

    pub(crate) async fn claim(
        &self,
        messages: usize,
        park: bool,
        sparse: bool,
        limit: Deadline,
    ) -> Result<Claimed> {
        let claim = self.claims.fetch_add(1, Ordering::Relaxed);
        let wanted = Wanted {
            queue: &self.queue,
            keys: &self.keys,
            messages,
            lease: self.subscription.lease,
            nonce: format!("{}.{claim:x}", self.verdicts.holder),
            waiter: park.then_some(&*self.waiter),
            max_attempts: self.subscription.max_attempts.get(),
            consumer: &self.subscription.consumer,
            sparse,
        };
        let claimed = wanted.claim(&self.handle.node, limit).await?;
        self.handle.meter.of(&self.queue).dropped(claimed.dropped);
        Ok(claimed)
    }

    /// Dead-letters what cannot be read; the rest can be handed out.
    pub(crate) async fn readable(&self, messages: Vec<Leased>) -> Vec<Delivery> {
        let (mut deliveries, mut unreadable) = (Vec::with_capacity(messages.len()), Vec::new());
        for Leased { lease, until, attempt, message } in messages {
            match message {
                Ok(message) => {
                    let receipt = self.verdicts.receipt(&lease, until);
                    deliveries.push(Delivery::new(self.queue.clone(), message, attempt, receipt, until));
                }
                Err(error) => unreadable.push(LeaseVerdict::unreadable(lease, until, error.0)),
            }
        }
        if !unreadable.is_empty() {
            tracing::warn!(name: "redis.undecodable", queue = %self.queue, entries = unreadable.len(), "set aside entries that cannot be read");
            self.verdicts.send(unreadable).await;
        }
        deliveries
    }

    /// Gives messages to those that wait; what nobody wants comes back.
    pub(crate) fn hand_out(&self, deliveries: Vec<Delivery>) -> Vec<Delivery> {
        if self.subscription.prefetch > 0 {
            let lease = |delivery: &Delivery| (delivery.receipt.clone(), (), delivery.lease_until);
            self.verdicts.leases.hand_out(Instant::now(), deliveries.iter().map(lease));
        }
        self.pending.offer(deliveries)
    }

    /// Releases what nobody was given, attempts unburned.
    pub(crate) async fn give_back(&self, deliveries: &[Delivery]) {
        self.verdicts.give_back(deliveries.iter().map(|delivery| &delivery.receipt)).await;
    }
}
