//! A consumer: receives wait at a desk, a task fetches for them, verdicts go their own way.

mod verdicts;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use polyqueue::backend::{CloseReason, Deadline, LeaseTable, PendingReceives, ReceiptTimes};
use polyqueue::{
    Certainty, Consumer, Delivery, Error, Extended, Receipt, Result, Settled, Subscription, Verdict,
    async_trait,
};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::claim::{Claimed, Clock, Leased, Wanted};
use crate::given::Given;
use crate::hub::{Hub, Route};
use crate::link::{Reply, Request};
use crate::settler::Judged;
use crate::time::millis;
use crate::wakers::Bell;
use crate::{pump, receipt};

/// What a consumer and its task share.
pub(crate) struct Core {
    pub(crate) hub: Arc<Hub>,
    pub(crate) route: Arc<Route>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) pending: PendingReceives<Delivery>,
    pub(crate) leases: LeaseTable<Receipt, ()>,
    subscription: Subscription,
    number: u64,
    /// Names this consumer in its leases.
    holder: String,
    /// Where a publisher finds us.
    waiter: String,
    claims: AtomicU64,
    /// A verdict was pronounced.
    judged: AtomicBool,
    epoch: Instant,
}

/// A reader of one queue.
pub(crate) struct RedisConsumer {
    core: Arc<Core>,
    ended: watch::Receiver<bool>,
}

impl RedisConsumer {
    /// Begins to read; its task ends with it.
    pub(crate) fn start(hub: &Arc<Hub>, subscription: Subscription) -> Self {
        let number = hub.consumers.fetch_add(1, Ordering::Relaxed);
        let core = Arc::new(Core {
            hub: hub.clone(),
            route: hub.route(&subscription.queue),
            bell: hub.wakers.add(number),
            pending: PendingReceives::new(hub.deadline, Certainty::Unknown),
            leases: LeaseTable::new(subscription.prefetch),
            number,
            holder: format!("{}-{number}", hub.tag),
            waiter: format!(
                "{}|{}|{}|{}",
                hub.waiter(number),
                millis(subscription.lease),
                subscription.max_attempts,
                subscription.consumer
            ),
            subscription,
            claims: AtomicU64::new(0),
            judged: AtomicBool::new(false),
            epoch: Instant::now(),
        });
        hub.remember(&core);
        let (end, ended) = watch::channel(false);
        let task = core.clone();
        tokio::spawn(async move {
            pump::run(task).await;
            end.send_replace(true);
        });
        Self { core, ended }
    }
}

/// What a receive was filled with and dropped goes back, also when the task that would see to it has ended.
struct Returned<'a>(&'a Arc<Core>);

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        let returned = self.0.pending.returned();
        if !returned.is_empty()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let core = self.0.clone();
            runtime.spawn(async move { core.give_back(&returned).await });
        }
    }
}

#[async_trait]
impl Consumer for RedisConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let core = &self.core;
        core.hub.check_open()?;
        core.hub.info.limits.check_wait(wait)?;
        if max == 0 {
            return Ok(Vec::new());
        }
        let _returned = Returned(core);
        match core.pending.receive(max, wait).await {
            Err(late @ Error::Timeout { .. }) => Err(core.hub.link.trouble().unwrap_or(late)),
            outcome => outcome,
        }
    }

    async fn settle(&self, verdicts: &[(Receipt, Verdict)]) -> Result<Vec<Result<Settled>>> {
        self.core.hub.check_open()?;
        Ok(self.core.settle(verdicts).await)
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Result<Extended>>> {
        self.core.hub.check_open()?;
        let mut answers = Vec::with_capacity(receipts.len());
        for chunk in receipts.chunks(100) {
            answers.extend(self.core.extend(chunk).await);
        }
        Ok(answers)
    }

    async fn close(&self) -> Result<()> {
        self.core.end(CloseReason::Consumer);
        let mut ended = self.ended.clone();
        let deadline = self.core.hub.deadline;
        let late = || Error::timeout("closing a consumer", deadline, Certainty::Unknown);
        timeout(deadline, ended.wait_for(|ended| *ended)).await.map(drop).map_err(|_| late())
    }
}

impl Drop for RedisConsumer {
    fn drop(&mut self) {
        self.core.end(CloseReason::Consumer);
    }
}

impl fmt::Debug for RedisConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConsumer")
            .field("queue", &self.core.route.queue)
            .field("consumer", &self.core.subscription.consumer)
            .finish_non_exhaustive()
    }
}

impl Core {
    /// Ends all receives, now and later.
    pub(crate) fn end(&self, reason: CloseReason) {
        self.pending.close(reason);
    }

    /// Waits no longer, as far as publishers know. Answers whether it still did: else somebody has just woken it, or given it
    /// a message.
    pub(crate) async fn leave(&self, limit: Deadline) -> bool {
        let mut request = Request::plain("ZREM");
        request.arg(self.route.keys.waiters()).arg(&self.waiter);
        self.hub.link.call(request, limit).await.is_ok_and(|answer| answer.reply == Reply::Number(1))
    }

    /// Nobody is heard any more.
    pub(crate) fn fall_silent(&self) {
        self.hub.wakers.remove(self.number);
    }

    /// Whether a verdict was pronounced since it was last forgotten.
    pub(crate) fn judged(&self) -> bool {
        self.judged.load(Ordering::Acquire)
    }

    pub(crate) fn forget_judged(&self) {
        self.judged.store(false, Ordering::Release);
    }

    /// What the server gave, from when on by its clock, as it is handed out.
    pub(crate) async fn accept(&self, given: Vec<Given>, clock: Clock) -> Vec<Delivery> {
        let lease = self.subscription.lease;
        let leased = given.into_iter().map(|given| {
            let until = clock.earliest(given.at) + lease;
            given.until(until)
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
            queue: &self.route.queue,
            keys: &self.route.keys,
            messages,
            lease: self.subscription.lease,
            nonce: format!("{}.{claim:x}", self.holder),
            waiter: park.then_some(&*self.waiter),
            max_attempts: self.subscription.max_attempts.get(),
            consumer: &self.subscription.consumer,
            sparse,
        };
        let claimed = wanted.claim(&self.hub.link, limit).await?;
        self.hub.meter.of(&self.route.queue).dropped(claimed.dropped);
        Ok(claimed)
    }

    /// Buries what cannot be read; the rest can be handed out.
    pub(crate) async fn readable(&self, messages: Vec<Leased>) -> Vec<Delivery> {
        let (mut deliveries, mut unreadable) = (Vec::with_capacity(messages.len()), Vec::new());
        let now = Instant::now();
        for Leased { lease, until, attempt, message } in messages {
            match message {
                Ok(message) => deliveries.push(Delivery {
                    queue: self.route.queue.clone(),
                    receipt: receipt::write(&lease, self.epoch, ReceiptTimes { handed: now, until }),
                    message,
                    attempt,
                    lease_until: until,
                }),
                Err(error) => unreadable.push(Judged::unreadable(lease, until, error.0)),
            }
        }
        if !unreadable.is_empty() {
            tracing::warn!(name: "redis.undecodable", queue = %self.route.queue, entries = unreadable.len());
            self.route.settle.send(unreadable).await;
        }
        deliveries
    }

    /// Gives messages to those that wait; what nobody wants comes back.
    pub(crate) fn hand_out(&self, deliveries: Vec<Delivery>) -> Vec<Delivery> {
        if self.subscription.prefetch > 0 {
            let lease = |delivery: &Delivery| (delivery.receipt.clone(), (), delivery.lease_until);
            self.leases.hand_out(Instant::now(), deliveries.iter().map(lease));
        }
        self.pending.offer(deliveries)
    }

    /// Releases what nobody was given, attempts unburned.
    pub(crate) async fn give_back(&self, deliveries: &[Delivery]) {
        let released = self.released(deliveries);
        self.route.settle.send(released).await;
    }

    fn released(&self, deliveries: &[Delivery]) -> Vec<Judged> {
        deliveries.iter().for_each(|delivery| self.leases.finish(&delivery.receipt));
        let release = |delivery: &Delivery| {
            let held = receipt::read(&delivery.receipt, self.epoch).ok()?;
            Some(Judged::unhanded(held.lease.to_owned(), held.times.until))
        };
        deliveries.iter().filter_map(release).collect()
    }
}
