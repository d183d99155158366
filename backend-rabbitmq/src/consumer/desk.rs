//! Where the pump lays down what it fetched, and pending receives take it, the oldest first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{Delivery, Error, QueueName, Result};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::held::{Held, Item, Stock};
use super::receipt::Key;

/// Shared by a consumer and its pump.
pub(crate) struct Desk {
    queue: QueueName,
    pub(super) nonce: String,
    pub(super) lease: Duration,
    pub(super) inner: Mutex<Inner>,
    /// Wakes the pump: a receive came or went, or a first lease began.
    pub(super) bell: Notify,
}

#[derive(Default)]
pub(super) struct Inner {
    slots: BTreeMap<u64, Slot>,
    next_slot: u64,
    stock: BinaryHeap<Stock>,
    /// What was in stock until it might not be handed out any more.
    stale: Vec<Key>,
    pub(super) held: HashMap<Key, Held>,
    /// When leases may end, and when what was settled may be forgotten.
    pub(super) ends: BinaryHeap<Reverse<(Instant, Key)>>,
    closing: bool,
    trouble: Option<Error>,
}

/// One pending receive.
struct Slot {
    max: usize,
    /// It wants to know what is ready now.
    now: bool,
    /// The broker was asked on its behalf.
    asked: bool,
    answer: Option<Result<Vec<Key>>>,
    waker: Option<Waker>,
}

impl Slot {
    fn answer(&mut self, answer: Result<Vec<Key>>) {
        self.answer = Some(answer);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// What pending receives want.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    /// Messages, over all of them.
    pub(super) wanted: usize,
    /// Whether one of them wants an answer now.
    pub(super) now: bool,
    /// Whether the broker was not asked yet on behalf of one of them.
    pub(super) unasked: bool,
}

impl Desk {
    pub(super) fn new(queue: QueueName, lease: Duration) -> Self {
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        Self { queue, nonce, lease, inner: Mutex::default(), bell: Notify::new() }
    }

    // ── receives ────────────────────────────────────────────────────────────────────────────────────────────────

    /// A place in the line. `now`: answered with what is ready, be it nothing.
    pub(super) fn line_up(&self, max: usize, now: bool) -> u64 {
        let mut inner = self.inner.lock();
        let id = inner.next_slot;
        inner.next_slot += 1;
        let mut slot = Slot { max, now, asked: false, answer: None, waker: None };
        if inner.closing {
            slot.answer = Some(Ok(Vec::new()));
        }
        inner.slots.insert(id, slot);
        inner.deal();
        drop(inner);
        self.bell.notify_one();
        id
    }

    /// The deliveries, taken in the very poll that returns them; their leases begin here.
    pub(super) fn poll(&self, id: u64, cx: &mut Context<'_>) -> Poll<Result<Vec<Delivery>>> {
        let mut inner = self.inner.lock();
        let Some(slot) = inner.slots.get_mut(&id) else { return Poll::Ready(Ok(Vec::new())) };
        match slot.answer.take() {
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(answer) => {
                inner.slots.remove(&id);
                Poll::Ready(answer.map(|keys| self.hand_out(&mut inner, keys)))
            }
        }
    }

    fn hand_out(&self, inner: &mut Inner, keys: Vec<Key>) -> Vec<Delivery> {
        let since = Instant::now();
        let until = since + self.lease;
        let mut deliveries = Vec::with_capacity(keys.len());
        if inner.ends.is_empty() {
            self.bell.notify_one();
        }
        for key in keys {
            let Some(held) = inner.held.get_mut(&key) else { continue };
            let Held::Stocked(item) = held else { continue };
            deliveries.push(Delivery {
                queue: self.queue.clone(),
                message: item.message.clone(),
                attempt: item.attempt,
                receipt: key.receipt(&self.nonce),
                lease_until: until,
            });
            *held = Held::Out { item: item.clone(), since, until };
            inner.ends.push(Reverse((until, key)));
        }
        deliveries
    }

    /// Leaves the line; what was given already goes to the next, or back to the broker.
    pub(super) fn step_out(&self, id: u64) {
        let mut inner = self.inner.lock();
        if let Some(Slot { answer: Some(Ok(keys)), .. }) = inner.slots.remove(&id) {
            for key in keys {
                inner.restock(key);
            }
            inner.deal();
        }
        drop(inner);
        self.bell.notify_one();
    }

    /// The wait is over: from now on whatever the broker says is the answer.
    pub(super) fn hurry(&self, id: u64) {
        if let Some(slot) = self.inner.lock().slots.get_mut(&id) {
            slot.now = true;
        }
        self.bell.notify_one();
    }

    /// Why the broker could not be asked, when it could not.
    pub(super) fn trouble(&self) -> Option<Error> {
        self.inner.lock().trouble.clone()
    }

    // ── the pump's side ─────────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn set_trouble(&self, trouble: Option<Error>) {
        self.inner.lock().trouble = trouble;
    }

    pub(super) fn demand(&self) -> Demand {
        let inner = self.inner.lock();
        let mut demand = Demand::default();
        for slot in inner.slots.values().filter(|slot| slot.answer.is_none()) {
            demand.wanted = demand.wanted.saturating_add(slot.max);
            demand.now |= slot.now;
            demand.unasked |= !slot.asked;
        }
        demand
    }

    /// Those who wait now.
    pub(super) fn waiting(&self) -> Vec<u64> {
        let inner = self.inner.lock();
        inner.slots.iter().filter(|(_, slot)| slot.answer.is_none()).map(|(id, _)| *id).collect()
    }

    /// The broker had nothing for these when it was asked.
    pub(super) fn found_nothing(&self, asked: &[u64]) {
        let mut inner = self.inner.lock();
        for id in asked {
            if let Some(slot) = inner.slots.get_mut(id).filter(|slot| slot.answer.is_none()) {
                slot.asked = true;
                if slot.now {
                    slot.answer(Ok(Vec::new()));
                }
            }
        }
    }

    /// A consumer is attached: whatever is ready comes by itself.
    pub(super) fn all_are_asked(&self) {
        for slot in self.inner.lock().slots.values_mut() {
            slot.asked = true;
        }
    }

    /// Lays down messages, highest priority first, and deals them out.
    pub(super) fn lay_down(&self, items: impl IntoIterator<Item = (Key, Arc<Item>)>) {
        let mut inner = self.inner.lock();
        for (key, item) in items {
            inner.held.insert(key, Held::Stocked(item));
            inner.restock(key);
        }
        inner.deal();
    }

    /// Takes off what nobody waits for.
    pub(super) fn clear_stock(&self) -> Vec<(Key, Arc<Item>)> {
        let mut inner = self.inner.lock();
        let stock = std::mem::take(&mut inner.stock).into_sorted_vec();
        let mut taken = Vec::with_capacity(stock.len());
        for stock in stock.into_iter().rev() {
            if let Some(Held::Stocked(item)) = inner.held.remove(&stock.key.0) {
                taken.push((stock.key.0, item));
            }
        }
        taken
    }

    /// Takes off what may not be handed out any more.
    pub(super) fn clear_stale(&self) -> Vec<(Key, Arc<Item>)> {
        let mut inner = self.inner.lock();
        let mut taken = Vec::new();
        for key in std::mem::take(&mut inner.stale) {
            if let Some(Held::Stocked(item)) = inner.held.remove(&key) {
                taken.push((key, item));
            }
        }
        taken
    }

    /// Answers all who wait with an error.
    pub(super) fn refuse(&self, error: &Error) {
        for slot in self.inner.lock().slots.values_mut().filter(|slot| slot.answer.is_none()) {
            slot.answer(Err(error.clone()));
        }
    }

    /// No more receives: those who wait get nothing.
    pub(super) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closing = true;
        for slot in inner.slots.values_mut().filter(|slot| slot.answer.is_none()) {
            slot.answer(Ok(Vec::new()));
        }
    }

    /// Whether there are no more receives.
    pub(super) fn is_closed(&self) -> bool {
        self.inner.lock().closing
    }

    /// The channels up to this one are gone, with all that came by them.
    pub(super) fn lose(&self, epoch: u64) {
        let mut inner = self.inner.lock();
        inner.held.retain(|key, held| key.epoch > epoch || matches!(held, Held::Settled { .. }));
        inner.stock.retain(|stock| stock.key.0.epoch > epoch);
        for slot in inner.slots.values_mut() {
            if let Some(Ok(keys)) = &mut slot.answer
                && !keys.is_empty()
            {
                keys.retain(|key| key.epoch > epoch);
                if keys.is_empty() {
                    slot.answer = None;
                }
            }
        }
    }
}

impl Inner {
    fn restock(&mut self, key: Key) {
        if let Some(Held::Stocked(item)) = self.held.get(&key) {
            let priority = item.message.priority();
            self.stock.push(Stock { priority, key: Reverse(key) });
        }
    }

    /// The oldest pending receive takes as much as it may, then the next.
    fn deal(&mut self) {
        for slot in self.slots.values_mut().filter(|slot| slot.answer.is_none()) {
            let mut keys = Vec::new();
            while keys.len() < slot.max
                && let Some(stock) = self.stock.pop()
            {
                let key = stock.key.0;
                match self.held.get(&key) {
                    Some(Held::Stocked(item)) if item.is_stale() => self.stale.push(key),
                    _ => keys.push(key),
                }
            }
            if keys.is_empty() {
                return;
            }
            slot.answer(Ok(keys));
        }
    }
}
