//! Where the task puts what it fetched, and pending receives take it, the oldest first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::backend::{Begin, CloseReason, PendingReceives, ReceiptTimes, later};
use polyqueue::{Certainty, Delivery, Extended, Priority, QueueName, Receipt, Result};
use tokio::time::Instant;

use crate::settle::fetched::Fetched;
use crate::settle::job::Leases;
use crate::settle::receipt::Key;

/// A message and its name on the channel.
pub(crate) type Tagged = (Key, Arc<Fetched>);

/// Shared by a consumer and its task.
pub(crate) struct HandOut {
    queue: QueueName,
    nonce: String,
    lease: Duration,
    epoch: Instant,
    pub(crate) pending: PendingReceives<Tagged>,
    pub(crate) leases: Leases,
    buffer: Mutex<Buffer>,
}

#[derive(Default)]
struct Buffer {
    /// The highest priority first, then what the broker sent first.
    ready: BTreeMap<(Reverse<Priority>, Key), Arc<Fetched>>,
    /// What was ready until it might not be handed out any more.
    stale: Vec<Tagged>,
}

impl HandOut {
    pub(crate) fn new(queue: QueueName, lease: Duration, prefetch: usize, deadline: Duration) -> Self {
        Self {
            queue,
            nonce: uuid::Uuid::new_v4().simple().to_string(),
            lease,
            epoch: Instant::now(),
            pending: PendingReceives::new(deadline, Certainty::Definite),
            leases: Leases::new(prefetch),
            buffer: Mutex::default(),
        }
    }

    pub(crate) async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let receive = self.pending.receive(max, wait);
        self.offer();
        Ok(self.hand_out(receive.await?))
    }

    /// Their leases begin here, in the poll that returns them.
    fn hand_out(&self, fetched: Vec<Tagged>) -> Vec<Delivery> {
        let handed = Instant::now();
        let until = later(handed, self.lease);
        let times = ReceiptTimes { handed, until };
        let deliver = |(key, item): &Tagged| {
            let receipt = key.receipt(&self.nonce, times, self.epoch);
            let (queue, message) = (self.queue.clone(), item.message.clone());
            Delivery::new(queue, message, item.attempt, item.max_attempts, receipt, until)
        };
        let deliveries = fetched.iter().map(deliver).collect();
        self.leases.hand_out(handed, fetched.into_iter().map(|(key, item)| (key, item, until)));
        deliveries
    }

    /// Takes a message for a verdict.
    pub(crate) fn begin(&self, receipt: &Receipt) -> Result<(Key, Begin<Arc<Fetched>>)> {
        let (key, times, ours) = Key::read(receipt, &self.nonce, self.epoch)?;
        Ok((key, if ours { self.leases.begin(&key, times.until) } else { Begin::LeaseLost }))
    }

    /// A new full lease.
    pub(crate) fn extend(&self, receipt: &Receipt) -> Result<Extended> {
        let (key, _, ours) = Key::read(receipt, &self.nonce, self.epoch)?;
        let until = later(Instant::now(), self.lease);
        Ok(if ours { self.leases.extend(&key, until) } else { Extended::LeaseLost })
    }

    /// Offers messages to the pending receives, highest priority first, and keeps what they do not take.
    pub(crate) fn put(&self, fetched: Vec<Tagged>) {
        self.buffer.lock().put(fetched);
        self.offer();
    }

    /// What dropped receives were given goes to the next, or back to the broker.
    pub(crate) fn put_returned(&self) {
        let returned = self.pending.returned();
        if !returned.is_empty() {
            self.put(returned);
        }
    }

    /// Takes off what nobody waits for.
    pub(crate) fn drain(&self) -> Vec<Tagged> {
        let ready = std::mem::take(&mut self.buffer.lock().ready);
        ready.into_iter().map(|((_, key), item)| (key, item)).collect()
    }

    /// Takes off what may not be handed out any more.
    pub(crate) fn drain_stale(&self) -> Vec<Tagged> {
        std::mem::take(&mut self.buffer.lock().stale)
    }

    /// Takes off what has waited for so long.
    pub(crate) fn drain_waiting(&self, time: Duration) -> Vec<Tagged> {
        let mut buffer = self.buffer.lock();
        let mut long = Vec::new();
        buffer.ready.retain(|(_, key), item| {
            let stays = item.came.elapsed() < time;
            if !stays {
                long.push((*key, item.clone()));
            }
            stays
        });
        long
    }

    /// No more receives: those who wait get nothing.
    pub(crate) fn close(&self) {
        self.pending.close(CloseReason::Consumer);
    }

    /// The channels up to this one are gone, with all that came by them.
    pub(crate) fn lose(&self, epoch: u64) {
        self.buffer.lock().ready.retain(|(_, key), _| key.epoch > epoch);
        self.pending.retain(|(key, _)| key.epoch > epoch);
        self.leases.lose(|key| key.epoch <= epoch);
    }

    /// The oldest pending receive takes as much as it may, then the next.
    fn offer(&self) {
        let mut buffer = self.buffer.lock();
        while let Some(demand) = self.pending.demand() {
            let fetched = buffer.pop(demand.messages);
            if fetched.is_empty() {
                return;
            }
            let rest = self.pending.offer(fetched);
            buffer.put(rest);
        }
    }
}

impl Buffer {
    fn put(&mut self, fetched: Vec<Tagged>) {
        let placed = |(key, item): Tagged| ((Reverse(item.message.priority()), key), item);
        self.ready.extend(fetched.into_iter().map(placed));
    }

    fn pop(&mut self, max: usize) -> Vec<Tagged> {
        let mut fetched = Vec::new();
        while fetched.len() < max
            && let Some(((_, key), item)) = self.ready.pop_first()
        {
            let to = if item.is_stale() { &mut self.stale } else { &mut fetched };
            to.push((key, item));
        }
        fetched
    }
}
