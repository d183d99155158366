//! A queue as one handle sees it: what its calls do there is counted for this handle.

use std::sync::Arc;

use polyqueue::QueueMeter;

use crate::broker::clock::Clock;
use crate::broker::locked_queue::{LockedQueue, State, Wakers};
use crate::broker::state::queue_state::QueueState;

/// A queue as one handle sees it.
#[derive(Clone, Debug)]
pub(crate) struct QueueRef {
    queue: Arc<LockedQueue>,
    pub(crate) meter: Arc<QueueMeter>,
}

impl QueueRef {
    pub(crate) fn new(queue: Arc<LockedQueue>, meter: Arc<QueueMeter>) -> Self {
        Self { queue, meter }
    }

    pub(crate) fn clock(&self) -> Clock {
        self.queue.clock
    }

    /// One call.
    pub(crate) fn call<R>(&self, act: impl FnOnce(&mut QueueState) -> R) -> R {
        self.call_state(|state| act(&mut state.queue))
    }

    /// The same for a call that may wait.
    pub(crate) fn call_waiting<R>(&self, act: impl FnOnce(&mut QueueState, &mut Wakers) -> R) -> R {
        self.call_state(|State { queue, wakers }| act(queue, wakers))
    }

    pub(crate) fn call_state<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        self.queue.call(&self.meter, act)
    }

    /// Whether both are of one queue.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.queue, &other.queue)
    }
}

/// One call to several queues, which nobody sees half done. They must be in the order of their names, as always: so no two
/// such calls wait for each other.
pub(crate) fn call_all<R>(
    queue_refs: &[QueueRef],
    act: impl FnOnce(&mut [&mut State]) -> R,
) -> (R, impl FnOnce()) {
    let mut locked: Vec<_> = queue_refs.iter().map(|queue_ref| queue_ref.queue.enter()).collect();
    let answer = act(&mut locked.iter_mut().map(|state| &mut **state).collect::<Vec<_>>());
    let after: Vec<_> =
        locked.iter_mut().zip(queue_refs).map(|(state, queue_ref)| state.leave(&queue_ref.meter)).collect();
    drop(locked);
    (answer, move || after.into_iter().for_each(|after| after.finish()))
}
