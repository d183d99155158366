//! A queue as one handle sees it: what its calls do there is counted for this handle.

use std::sync::Arc;

use polyqueue::QueueMeter;

use crate::cell::{Cell, State, Wakers};
use crate::clock::Clock;
use crate::line::Line;

/// A queue as one handle sees it.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    cell: Arc<Cell>,
    pub(crate) meter: Arc<QueueMeter>,
}

impl Desk {
    pub(crate) fn new(cell: Arc<Cell>, meter: Arc<QueueMeter>) -> Self {
        Self { cell, meter }
    }

    pub(crate) fn clock(&self) -> Clock {
        self.cell.clock
    }

    /// One call.
    pub(crate) fn call<R>(&self, act: impl FnOnce(&mut Line) -> R) -> R {
        self.call_state(|state| act(&mut state.line))
    }

    /// The same for a call that may wait.
    pub(crate) fn call_waiting<R>(&self, act: impl FnOnce(&mut Line, &mut Wakers) -> R) -> R {
        self.call_state(|State { line, wakers }| act(line, wakers))
    }

    pub(crate) fn call_state<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        self.cell.call(&self.meter, act)
    }

    /// Whether both are of one queue.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.cell, &other.cell)
    }
}

/// One call to several queues, which nobody sees half done. They must be in the order of their names, as always: so no two
/// such calls wait for each other.
pub(crate) fn call_all<R>(desks: &[Desk], act: impl FnOnce(&mut [&mut State]) -> R) -> (R, impl FnOnce()) {
    let mut locked: Vec<_> = desks.iter().map(|desk| desk.cell.enter()).collect();
    let answer = act(&mut locked.iter_mut().map(|state| &mut **state).collect::<Vec<_>>());
    let after: Vec<_> = locked.iter_mut().zip(desks).map(|(state, desk)| state.leave(&desk.meter)).collect();
    drop(locked);
    (answer, move || after.into_iter().for_each(|after| after.finish()))
}
