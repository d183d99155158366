//! One queue: what is where, and the moves that more than one act makes.

use std::sync::Arc;

use polyqueue::backend::EventSender;
use polyqueue::{Bound, DedupUntil, Message, MessageId, Overflow, QueueName, QueueSpec, Retention};

use super::blocked::BlockedPublishes;
use super::consumers::ConsumerState;
use super::dead_letters::DeadLetters;
use super::dedup_keys::{Claim, DedupKeys};
use super::delayed::{Delayed, number_of};
use super::expiry::{Expiry, Location};
use super::ids::{ById, ConsumerId, WaiterId};
use super::in_flight::InFlight;
use super::pending::PendingReceives;
use super::ready::Ready;
use super::removed::{Purged, Removed};
use super::steps::Steps;
use super::stored::Stored;
use crate::broker::clock::{At, Clock};
use crate::mutants::{Bug, planted};

/// So many publishes that wait for room are woken by a call at most: each of them is another call, which wakes the next.
const WOKEN: usize = 100;

/// One queue.
#[derive(Debug)]
pub(crate) struct QueueState {
    pub(super) name: QueueName,
    pub(super) bound: Option<Bound>,
    pub(super) retention: Retention,
    pub(super) events: EventSender,
    pub(super) now: At,
    #[cfg(polyqueue_mutants)]
    pub(super) before: At,
    pub(super) numbers: u64,
    pub(super) ready: Ready,
    pub(super) delayed: Delayed,
    pub(super) expiry: Expiry,
    pub(super) in_flight: InFlight,
    pub(super) dead: DeadLetters,
    pub(super) purged: Purged,
    pub(super) keys: Option<DedupKeys>,
    pub(super) consumers: ById<ConsumerId, ConsumerState>,
    pub(super) waiting: PendingReceives,
    pub(super) blocked: BlockedPublishes,
    pub(super) removed: Removed,
    pub(super) counts: Counts,
    pub(super) deleted: bool,
    pub(crate) steps: Steps,
    /// Whether something is due, or could be handed to somebody who waits, for which no step was left.
    pub(super) behind: bool,
    /// Those who wait are to be served when the call is over: many verdicts make room for one large answer, not for many small ones.
    pub(super) serves: bool,
}

/// What a call did that is to be counted for its caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) published: u64,
    pub(crate) duplicates: u64,
    pub(crate) refused: u64,
    pub(crate) overflowed: u64,
    pub(crate) dropped: u64,
}

impl QueueState {
    pub(crate) fn new(spec: &QueueSpec, clock: Clock, events: EventSender, serial: u64) -> Self {
        Self {
            name: spec.name.clone(),
            bound: spec.bound,
            retention: spec.dead,
            events,
            now: At::default(),
            #[cfg(polyqueue_mutants)]
            before: At::default(),
            numbers: 0,
            ready: Ready::default(),
            delayed: Delayed::default(),
            expiry: Expiry::default(),
            in_flight: InFlight::default(),
            dead: DeadLetters::new(spec.name.clone(), clock, serial),
            purged: Purged::default(),
            keys: spec.dedup.map(DedupKeys::new),
            consumers: ById::default(),
            waiting: PendingReceives::default(),
            blocked: BlockedPublishes::default(),
            removed: Removed::default(),
            counts: Counts::default(),
            deleted: false,
            steps: Steps::default(),
            behind: false,
            serves: false,
        }
    }

    /// A fresh number: one sequence orders hand-outs, delays and deaths.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn now(&self) -> At {
        self.now
    }

    /// Whether all that is due is applied, and nobody waits for what he could have.
    pub(crate) fn is_caught_up(&self) -> bool {
        !self.behind
    }

    /// When something becomes due by itself, or is to be gone on with.
    pub(super) fn next_due(&self) -> Option<At> {
        if self.behind {
            return Some(self.now);
        }
        let due = self.delayed.first().map(|key| key.0).filter(|_| !planted(Bug::DueWakesNobody));
        let end = self.in_flight.next_end().map(|end| end.0).filter(|_| !planted(Bug::ExpiryWakesNobody));
        let expires = self.expiry.next().map(|next| next.0);
        due.into_iter().chain(end).chain(expires).min()
    }

    pub(super) fn promote_first(&mut self) {
        if let Some((due, item)) = self.delayed.pop_first() {
            self.expiry.unwatch(&item);
            self.make_ready(item, due);
        }
    }

    /// Ready since `since`, behind all of its priority.
    pub(super) fn make_ready(&mut self, mut item: Box<Stored>, since: At) {
        item.place = self.number();
        item.ready_since = since;
        self.put_ready(item);
    }

    /// Ready at its place.
    pub(super) fn put_ready(&mut self, item: Box<Stored>) {
        self.steps.take();
        self.expiry.watch(&item, Location::Ready(item.message.priority()));
        self.ready.put(item);
    }

    /// Ready at `at`, which may be now.
    pub(super) fn ready_at(&mut self, mut item: Box<Stored>, at: At) {
        if at <= self.now {
            return self.make_ready(item, self.now);
        }
        let number = self.number();
        item.place = number_of(number);
        self.steps.take();
        self.expiry.watch(&item, Location::Delayed(at));
        self.delayed.insert(at, item);
    }

    #[cfg(not(polyqueue_mutants))]
    pub(super) fn due(&self, due: At, _: std::time::Duration) -> At {
        due
    }

    #[cfg(polyqueue_mutants)]
    pub(super) fn due(&self, due: At, delay: std::time::Duration) -> At {
        if planted(Bug::EarlyByOne) {
            return due.minus(std::time::Duration::from_millis(1));
        }
        if planted(Bug::DelayFromBefore) {
            return self.before.plus(delay);
        }
        let last = self.delayed.last().map(|key| key.0);
        if planted(Bug::HeadOfLine) { last.map_or(due, |last| due.max(last)) } else { due }
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// A duplicate came: only a bug makes that mean anything.
    #[cfg(polyqueue_mutants)]
    pub(super) fn begin_window_anew(&mut self, message: &Message) {
        let now = self.now;
        let (Some(keys), Some(key)) = (&mut self.keys, message.dedup_key()) else { return };
        if planted(Bug::WindowFromDuplicate)
            && let Some(claim) = keys.taken.get(key)
            && let Some(entry) = keys.order.get_mut(&claim.number)
        {
            entry.0 = now.plus(keys.dedup.window);
        }
    }

    /// The message that has this one's key.
    pub(super) fn holder_of(&self, message: &Message) -> Option<&MessageId> {
        Some(&self.keys.as_ref()?.taken.get(message.dedup_key()?)?.id)
    }

    pub(super) fn take_key(&mut self, item: &Stored) {
        let number = self.number();
        let (Some(keys), Some(key)) = (&mut self.keys, item.message.dedup_key()) else { return };
        if keys.taken.contains_key(key) {
            return;
        }
        let (key, id): (Arc<str>, _) = (key.into(), item.message.id().clone());
        let room = item.room.beside(key.len() + id.as_str().len());
        keys.order.insert(number, (self.now.plus(keys.dedup.window), key.clone()));
        keys.taken.insert(key, Claim { id, number, _room: room });
    }

    /// The message is gone for good, or dead: its key is free.
    pub(super) fn free_key(&mut self, message: &Message) {
        // In this order: a queue that keeps no keys need not look into the message.
        if let Some(keys) = &mut self.keys
            && let Some(key) = message.dedup_key()
        {
            keys.free(key, message.id());
        }
    }

    /// The message is acked: its key is free where the queue is declared so.
    pub(super) fn free_acked_key(&mut self, message: &Message) {
        let until = self.keys.as_ref().map(|keys| keys.dedup.until);
        let frees = (until == Some(DedupUntil::Ack)) != planted(Bug::AckTurnsKeys);
        if frees {
            self.free_key(message);
        }
    }

    /// The oldest key is free when its window has ended, or the queue has; whether it was there.
    pub(super) fn forget_key(&mut self) -> bool {
        let until = if self.deleted { At::NEVER } else { self.now };
        self.keys.as_mut().is_some_and(|keys| keys.forget_first(until))
    }

    /// A message was a duplicate here.
    pub(crate) fn skip(&mut self) {
        self.counts.published += 1;
        self.counts.duplicates += 1;
        self.steps.take();
    }

    /// A message found no room here.
    pub(crate) fn refuse(&mut self) {
        self.counts.refused += 1;
        self.steps.take();
    }

    /// A consumer holds one message less, and may be served again.
    pub(super) fn free_capacity(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        consumer.held = consumer.held.saturating_sub(1);
        consumer.offer_oldest(&mut self.waiting);
    }

    pub(super) fn drop_waiter(&mut self, consumer: ConsumerId, waiter: WaiterId) {
        if let Some(consumer) = self.consumers.get_mut(&consumer) {
            consumer.drop_waiter(waiter);
            consumer.offer_oldest(&mut self.waiting);
        }
    }

    /// A publish waits until it is woken, at the latest until what is answered: then something expires, which makes room.
    pub(crate) fn await_room(&mut self, waiter: WaiterId) -> Option<At> {
        self.blocked.waiters.insert(waiter);
        self.blocked.armed = self.expiry.next().map(|next| next.0);
        self.blocked.armed
    }

    /// A publish waits no more.
    pub(crate) fn stop_awaiting(&mut self, waiter: WaiterId) {
        self.blocked.waiters.remove(&waiter);
    }

    /// The publishes to wake when a call is over.
    pub(super) fn woken_publishes(&mut self) -> Vec<WaiterId> {
        if self.blocked.waiters.is_empty() || planted(Bug::RoomWakesNobody) {
            return Vec::new();
        }
        let next = self.expiry.next().map(|next| next.0);
        let sooner = next.is_some_and(|next| self.blocked.armed.is_none_or(|armed| next < armed));
        let room = match self.bound {
            _ if self.deleted || sooner => usize::MAX,
            Some(bound) if bound.overflow == Overflow::Block => {
                usize::try_from(bound.max_len).unwrap_or(usize::MAX).saturating_sub(self.ready.len())
            }
            _ => usize::MAX,
        };
        self.blocked.waiters.iter().take(room.min(WOKEN)).copied().collect()
    }
}
