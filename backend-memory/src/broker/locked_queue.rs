//! One queue behind its lock, with the wakers of those who wait for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};
use polyqueue::{QueueMeter, QueueSpec};

use crate::broker::clock::Clock;
use crate::broker::state::due::{self, Effects};
use crate::broker::state::ids::WaiterId;
use crate::broker::state::queue_state::{Counts, QueueState, Removed};

/// One queue behind its lock.
#[derive(Debug)]
pub(crate) struct LockedQueue {
    pub(crate) clock: Clock,
    state: Mutex<State>,
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) queue: QueueState,
    pub(crate) wakers: Wakers,
}

/// The wakers of calls that wait, by waiter.
pub(crate) type Wakers = HashMap<WaiterId, Waker>;

impl LockedQueue {
    pub(crate) fn new(spec: &QueueSpec, clock: Clock) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let queue = QueueState::new(spec, clock, SERIAL.fetch_add(1, Relaxed));
        Self { clock, state: Mutex::new(State { queue, wakers: Wakers::new() }) }
    }

    /// One call: what is due is applied before; after it what happened is counted, and who must know is woken.
    pub(crate) fn call<R>(&self, meter: &QueueMeter, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.enter();
        let answer = act(&mut state);
        let after = state.leave(meter);
        drop(state);
        after.finish();
        answer
    }

    /// Under the lock, so that time never goes back from one call to the next.
    pub(crate) fn enter(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        due::advance(&mut state.queue, self.clock.now());
        state
    }
}

impl State {
    /// The end of a call; its rest is to be done without the lock.
    pub(crate) fn leave(&mut self, meter: &QueueMeter) -> After {
        let Effects { woken, removed, counts } = due::effects(&mut self.queue);
        count(counts, meter);
        After { woken: woken.iter().filter_map(|waiter| self.wakers.remove(waiter)).collect(), removed }
    }
}

/// What is left to do when a call is over and its lock is free.
pub(crate) struct After {
    woken: Vec<Waker>,
    removed: Removed,
}

impl After {
    pub(crate) fn finish(self) {
        self.woken.into_iter().for_each(Waker::wake);
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
