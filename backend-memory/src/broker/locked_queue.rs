//! One queue behind its lock, with the wakers of those who wait for it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};
use polyqueue::backend::{EventSender, QueueMeter};
use polyqueue::{Message, Overflow, QueueName, QueueSpec};

use crate::broker::clock::{At, Clock};
use crate::broker::state::due::{self, Effects};
use crate::broker::state::ids::{ById, WaiterId};
use crate::broker::state::queue_state::{Counts, QueueState};
use crate::broker::state::removed::Removed;

/// One queue behind its lock.
#[derive(Debug)]
pub(crate) struct LockedQueue {
    pub(crate) clock: Clock,
    pub(crate) terms: Terms,
    state: Mutex<State>,
}

/// What a queue was declared with that decides what it may refuse.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) name: QueueName,
    pub(crate) keeps_keys: bool,
    overflow: Option<Overflow>,
}

impl Terms {
    /// Whether every message without a dedup key comes in, and makes nothing else go.
    pub(crate) fn takes_all(&self) -> bool {
        self.overflow.is_none() && !self.keeps_keys
    }

    /// Whether this message may be a duplicate there, or find no room.
    pub(crate) fn may_refuse(&self, message: &Message) -> bool {
        let full = matches!(self.overflow, Some(Overflow::Reject | Overflow::Block));
        full && message.delay().is_zero() || self.keeps_keys && message.dedup_key().is_some()
    }
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) queue: QueueState,
    pub(crate) wakers: Wakers,
}

/// The wakers of calls that wait, by waiter.
pub(crate) type Wakers = ById<WaiterId, Waker>;

impl LockedQueue {
    pub(crate) fn new(spec: &QueueSpec, clock: Clock, events: EventSender) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let queue = QueueState::new(spec, clock.clone(), events, SERIAL.fetch_add(1, Relaxed));
        let terms = Terms {
            name: spec.name.clone(),
            keeps_keys: spec.dedup.is_some(),
            overflow: spec.bound.map(|bound| bound.overflow),
        };
        Self { clock, terms, state: Mutex::new(State { queue, wakers: Wakers::default() }) }
    }

    /// One call: what is due is applied before; after it what happened is counted, and who must know is woken. `None` when
    /// more is due than there are steps for under one hold of the lock: then nothing was called, and it is to be tried again.
    pub(crate) fn try_call<R>(&self, meter: &QueueMeter, act: impl FnOnce(&mut State) -> R) -> Option<R> {
        self.hold(meter, |state| state.queue.is_caught_up().then(|| act(state)))
    }

    /// The same at this moment, or later where another call has seen a later one.
    pub(crate) fn try_call_at<R>(
        &self,
        now: At,
        meter: &QueueMeter,
        act: impl FnOnce(&mut State) -> R,
    ) -> Option<R> {
        let mut state = self.state.lock();
        due::advance(&mut state.queue, now, 1);
        leave(state, meter, |state| state.queue.is_caught_up().then(|| act(state)))
    }

    /// One call that does not need to know all that is due.
    pub(crate) fn hold<R>(&self, meter: &QueueMeter, act: impl FnOnce(&mut State) -> R) -> R {
        leave(self.enter(1), meter, act)
    }

    /// Under the lock, so that time never goes back from one call to the next. So many queues are entered together.
    pub(crate) fn enter(&self, together: usize) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        due::advance(&mut state.queue, self.clock.now(), together);
        state
    }
}

/// Acts, and leaves.
fn leave<R>(mut state: MutexGuard<'_, State>, meter: &QueueMeter, act: impl FnOnce(&mut State) -> R) -> R {
    let answer = act(&mut state);
    let after = state.leave(meter);
    drop(state);
    after.finish();
    answer
}

impl State {
    /// The end of a call; its rest is to be done without the lock.
    pub(crate) fn leave(&mut self, meter: &QueueMeter) -> After {
        let Effects { woken, removed, counts } = due::effects(&mut self.queue);
        count(counts, meter);
        let woken = woken.iter().filter_map(|waiter| self.wakers.remove(waiter)).collect();
        let told = if self.queue.is_deleted() { std::mem::take(&mut self.wakers) } else { Wakers::default() };
        After { woken, told, removed }
    }
}

/// What is left to do when a call is over and its lock is free.
pub(crate) struct After {
    woken: Vec<Waker>,
    /// All who wait at a queue that is deleted.
    told: Wakers,
    removed: Removed,
}

impl After {
    pub(crate) fn finish(self) {
        self.woken.into_iter().for_each(Waker::wake);
        let mut told: Vec<_> = self.told.into_iter().collect();
        told.sort_unstable_by_key(|(waiter, _)| *waiter);
        told.into_iter().for_each(|(_, waker)| waker.wake());
        drop(self.removed);
    }
}

/// Most calls have nothing to count, or one thing.
fn count(counts: Counts, meter: &QueueMeter) {
    let add = |number: u64, to: fn(&QueueMeter, u64)| {
        if number > 0 {
            to(meter, number);
        }
    };
    add(counts.published, QueueMeter::published);
    add(counts.duplicates, QueueMeter::duplicates);
    add(counts.refused, QueueMeter::refused);
    add(counts.overflowed, QueueMeter::overflowed);
    add(counts.dropped, QueueMeter::dropped);
}
