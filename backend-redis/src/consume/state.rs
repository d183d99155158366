//! What a consumer and its task share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use polyqueue::backend::{Deadline, PendingReceives, Receiving};
use polyqueue::{Certainty, Delivery, Event, QueueName, Result, Subscription};
use tokio::time::Instant;

use crate::connection::clock::Clock;
use crate::connection::handle::Handle;
use crate::connection::notifier::Signal;
use crate::consume::claim::{Claimed, Leased, Place, Wanted};
use crate::consume::pushed;
use crate::consume::pushed::Pushed;
use crate::consume::recovery::Nonce;
use crate::settle::batch::LeaseVerdict;
use crate::settle::settlers::QueueSettler;
use crate::settle::verdicts::Verdicts;
use crate::topology::revival::Revival;
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
    revival: Arc<Revival>,
    number: u64,
    /// Where a publisher finds us.
    waiter: String,
    claims: AtomicU64,
    verdict_given: AtomicBool,
}

impl ConsumerState {
    pub(crate) fn new(
        handle: &Arc<Handle>,
        settler: Arc<QueueSettler>,
        revival: Arc<Revival>,
        subscription: Subscription,
    ) -> Self {
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
            revival,
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
            pushed.leased(lease, until)
        });
        self.readable(leased.collect()).await
    }

    /// Claims. What is long in coming is not lost meanwhile; what will never come goes back.
    pub(crate) async fn claim(
        &self,
        messages: usize,
        place: Place,
        sparse: bool,
        limit: Deadline,
    ) -> Result<Claimed> {
        let claim = self.claims.fetch_add(1, Ordering::Relaxed);
        let (node, lease) = (&self.handle.node, self.subscription.lease);
        let wanted = Wanted {
            queue: &self.queue,
            keys: &self.keys,
            messages,
            lease,
            nonce: format!("{}.{claim:x}", self.verdicts.holder),
            waiter: &self.waiter,
            place,
            bytes: node.budget(lease),
            max_attempts: self.subscription.max_attempts.get(),
            consumer: &self.subscription.consumer,
            sparse,
        };
        let nonce = self.leases_of(wanted.nonce.clone());
        let kept_until = Mutex::default();
        let claimed = tokio::select! {
            biased;
            claimed = wanted.claim(node, limit) => claimed,
            () = nonce.keep(lease, &kept_until) => return Err(limit.error(Certainty::Unknown)),
        };
        let mut claimed = claimed.inspect_err(|error| {
            if error.certainty() == Certainty::Unknown {
                let not_after = node.clock().map_or(0, |clock| clock.latest(limit.until()));
                tokio::spawn(nonce.recover(not_after, lease));
            }
        })?;
        if let Some(until) = kept_until.into_inner() {
            for leased in &mut claimed.messages {
                leased.ends += millis(until.saturating_duration_since(leased.until));
                leased.until = leased.until.max(until);
            }
        }
        self.handle.meter.of(&self.queue).dropped(claimed.dropped);
        for (id, reason) in claimed.died.drain(..) {
            self.handle.events.send(Event::DeadLetter { queue: self.queue.clone(), id, reason });
        }
        for key in claimed.set_aside.drain(..) {
            let detail = format!("the key {key} was of another type than ours: it is {key}:aside now");
            self.handle.events.send(Event::SetAside { queue: self.queue.clone(), detail });
        }
        Ok(claimed)
    }

    /// Gives back what was given to us after `last`, by the server's clock in µs, and never came.
    pub(crate) async fn give_back_unheard(&self, last: u64) -> Result<()> {
        let given = self.leases_of(format!("{}.*.given", self.verdicts.holder));
        let mut leases = given.leases().await?;
        leases.retain(|lease| pushed::given_at(lease).is_some_and(|at| at > last));
        given.give_back(&leases).await
    }

    /// Whether the queue, which was not there, is there again.
    pub(crate) async fn revive(&self) -> bool {
        self.revival.revive(&self.queue, Deadline::new("receive", self.handle.deadline)).await
    }

    fn leases_of(&self, pattern: String) -> Nonce {
        Nonce { node: self.handle.node.clone(), keys: self.keys.clone(), pattern }
    }

    /// Dead-letters what cannot be read; the rest can be handed out.
    pub(crate) async fn readable(&self, messages: Vec<Leased>) -> Vec<Delivery> {
        let (mut deliveries, mut unreadable) = (Vec::with_capacity(messages.len()), Vec::new());
        for Leased { lease, until, ends, attempt, max_attempts, message } in messages {
            match message {
                Ok(message) => {
                    let receipt = self.verdicts.receipt(&lease, until, ends);
                    let queue = self.queue.clone();
                    deliveries.push(Delivery::new(queue, message, attempt, max_attempts, receipt, until));
                }
                Err(error) => {
                    let detail = error.0.clone();
                    self.handle.events.send(Event::SetAside { queue: self.queue.clone(), detail });
                    unreadable.push(LeaseVerdict::unreadable(lease, error.0));
                }
            }
        }
        if !unreadable.is_empty() {
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

impl Receiving for ConsumerState {
    fn queue(&self) -> &QueueName {
        &self.queue
    }

    fn unfed_since(&self) -> Option<Instant> {
        self.pending.unfed_since()
    }
}
