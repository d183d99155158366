//! One queue behind its lock, with the wakers of those who wait for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Waker;

use parking_lot::Mutex;
use polyqueue::QueueName;

use crate::clock::Clock;
use crate::line::{Effects, Line, Ticket};

/// One queue behind its lock.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    line: Line,
    wakers: Wakers,
}

/// The wakers of receives that wait, by ticket.
pub(crate) type Wakers = HashMap<Ticket, Waker>;

impl Cell {
    pub(crate) fn new(name: QueueName, clock: Clock) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let line = Line::new(name, clock, SERIAL.fetch_add(1, Relaxed));
        Self { clock, state: Mutex::new(State { line, wakers: Wakers::new() }) }
    }

    /// One call: what is due is applied before, who must know is woken after.
    pub(crate) fn call<R>(&self, act: impl FnOnce(&mut Line) -> R) -> R {
        self.call_waiting(|line, _| act(line))
    }

    /// The same for a call that may wait.
    pub(crate) fn call_waiting<R>(&self, act: impl FnOnce(&mut Line, &mut Wakers) -> R) -> R {
        let mut state = self.state.lock();
        let State { line, wakers } = &mut *state;
        // Under the lock, so that time never goes back from one call to the next.
        line.advance(self.clock.now());
        let answer = act(line, wakers);
        let Effects { woken, trash } = line.effects();
        let woken: Vec<Waker> = woken.iter().filter_map(|ticket| wakers.remove(ticket)).collect();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        drop(trash);
        answer
    }
}
