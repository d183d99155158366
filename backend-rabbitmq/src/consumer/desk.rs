//! Where the pump lays down what it fetched, and pending receives take it, the oldest first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::backend::{Begin, CloseReason, LeaseTable, PendingReceives, ReceiptTimes, later};
use polyqueue::{Certainty, Delivery, Extended, Priority, QueueName, Receipt, Result};
use tokio::time::Instant;

use super::held::Item;
use super::receipt::Key;

/// A message and its name on the channel.
pub(super) type Fetched = (Key, Arc<Item>);

/// Shared by a consumer and its pump.
pub(crate) struct Desk {
    queue: QueueName,
    nonce: String,
    lease: Duration,
    epoch: Instant,
    pub(super) pending: PendingReceives<Fetched>,
    pub(super) leases: LeaseTable<Key, Arc<Item>>,
    buffer: Mutex<Buffer>,
}

#[derive(Default)]
struct Buffer {
    /// The highest priority first, then what the broker sent first.
    stock: BTreeMap<(Reverse<Priority>, Key), Arc<Item>>,
    /// What was in stock until it might not be handed out any more.
    stale: Vec<Fetched>,
}

impl Desk {
    pub(super) fn new(queue: QueueName, lease: Duration, prefetch: usize, deadline: Duration) -> Self {
        Self {
            queue,
            nonce: uuid::Uuid::new_v4().simple().to_string(),
            lease,
            epoch: Instant::now(),
            pending: PendingReceives::new(deadline, Certainty::Definite),
            leases: LeaseTable::new(prefetch),
            buffer: Mutex::default(),
        }
    }

    pub(super) async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let receive = self.pending.receive(max, wait);
        self.deal();
        Ok(self.hand_out(receive.await?))
    }

    /// Their leases begin here, in the poll that returns them.
    fn hand_out(&self, fetched: Vec<Fetched>) -> Vec<Delivery> {
        let handed = Instant::now();
        let until = later(handed, self.lease);
        let times = ReceiptTimes { handed, until };
        let deliver = |(key, item): &Fetched| Delivery {
            queue: self.queue.clone(),
            message: item.message.clone(),
            attempt: item.attempt,
            receipt: key.receipt(&self.nonce, times, self.epoch),
            lease_until: until,
        };
        let deliveries = fetched.iter().map(deliver).collect();
        self.leases.hand_out(handed, fetched.into_iter().map(|(key, item)| (key, item, until)));
        deliveries
    }

    /// Takes a message for a verdict.
    pub(super) fn begin(&self, receipt: &Receipt) -> Result<(Key, Begin<Arc<Item>>)> {
        let (key, times, ours) = Key::read(receipt, &self.nonce, self.epoch)?;
        Ok((key, if ours { self.leases.begin(&key, times.until) } else { Begin::LeaseLost }))
    }

    /// A new full lease.
    pub(super) fn extend(&self, receipt: &Receipt) -> Result<Extended> {
        let (key, _, ours) = Key::read(receipt, &self.nonce, self.epoch)?;
        let until = later(Instant::now(), self.lease);
        Ok(if ours { self.leases.extend(&key, until) } else { Extended::LeaseLost })
    }

    /// Lays down messages, highest priority first, and deals them out.
    pub(super) fn lay_down(&self, fetched: Vec<Fetched>) {
        self.buffer.lock().restock(fetched);
        self.deal();
    }

    /// What dropped receives were given goes to the next, or back to the broker.
    pub(super) fn take_back(&self) {
        let returned = self.pending.returned();
        if !returned.is_empty() {
            self.lay_down(returned);
        }
    }

    /// Takes off what nobody waits for.
    pub(super) fn clear_stock(&self) -> Vec<Fetched> {
        let stock = std::mem::take(&mut self.buffer.lock().stock);
        stock.into_iter().map(|((_, key), item)| (key, item)).collect()
    }

    /// Takes off what may not be handed out any more.
    pub(super) fn clear_stale(&self) -> Vec<Fetched> {
        std::mem::take(&mut self.buffer.lock().stale)
    }

    /// No more receives: those who wait get nothing.
    pub(super) fn close(&self) {
        self.pending.close(CloseReason::Consumer);
    }

    /// The channels up to this one are gone, with all that came by them.
    pub(super) fn lose(&self, epoch: u64) {
        self.buffer.lock().stock.retain(|(_, key), _| key.epoch > epoch);
        self.pending.retain(|(key, _)| key.epoch > epoch);
        self.leases.lose(|key| key.epoch <= epoch);
    }

    /// The oldest pending receive takes as much as it may, then the next.
    fn deal(&self) {
        let mut buffer = self.buffer.lock();
        while let Some(demand) = self.pending.demand() {
            let fetched = buffer.pop(demand.messages);
            if fetched.is_empty() {
                return;
            }
            let rest = self.pending.offer(fetched);
            buffer.restock(rest);
        }
    }
}

impl Buffer {
    fn restock(&mut self, fetched: Vec<Fetched>) {
        let placed = |(key, item): Fetched| ((Reverse(item.message.priority()), key), item);
        self.stock.extend(fetched.into_iter().map(placed));
    }

    fn pop(&mut self, max: usize) -> Vec<Fetched> {
        let mut fetched = Vec::new();
        while fetched.len() < max
            && let Some(((_, key), item)) = self.stock.pop_first()
        {
            let to = if item.is_stale() { &mut self.stale } else { &mut fetched };
            to.push((key, item));
        }
        fetched
    }
}
