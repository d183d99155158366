//! A queue as one handle sees it: what its calls do there is counted for this handle.

use std::sync::Arc;

use polyqueue::backend::{Deadline, QueueMeter};
use polyqueue::{Certainty, Result};

use crate::broker::clock::{At, Clock};
use crate::broker::locked_queue::{After, LockedQueue, State, Terms, Wakers};
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

    pub(crate) fn clock(&self) -> &Clock {
        &self.queue.clock
    }

    /// One call, when all that is due is applied; others get in as long as it is not.
    ///
    /// # Errors
    /// A definite `Timeout` when the deadline passes before.
    pub(crate) async fn call<R: Send>(
        &self,
        deadline: Deadline,
        mut act: impl FnMut(&mut QueueState) -> R + Send,
    ) -> Result<R> {
        loop {
            if let Some(answer) = self.try_call(|state| act(&mut state.queue)) {
                return Ok(answer);
            }
            if deadline.is_over() {
                return Err(deadline.error(Certainty::Definite));
            }
            tokio::task::yield_now().await;
        }
    }

    /// The same in as many parts as it takes until one answers that all is done; others get in between.
    ///
    /// # Errors
    /// `Timeout` when the deadline passes before, definite as if no part had had an effect.
    pub(crate) async fn call_in_parts(
        &self,
        deadline: Deadline,
        mut part: impl FnMut(&mut QueueState) -> bool + Send,
    ) -> Result<()> {
        while !self.call(deadline, &mut part).await? {
            if deadline.is_over() {
                return Err(deadline.error(Certainty::Definite));
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// One answer for each of `given`, in as many parts: of those that there are answers for when the deadline passes, and the
    /// error for the others.
    pub(crate) async fn each<G: Sync, A: Send>(
        &self,
        deadline: Deadline,
        given: &[G],
        mut act: impl FnMut(&mut QueueState, usize, &G) -> A + Send,
    ) -> (Vec<A>, Result<()>) {
        let mut answers = Vec::with_capacity(given.len());
        let parts = self.call_in_parts(deadline, |state| {
            for (at, given) in given.iter().enumerate().skip(answers.len()) {
                if !state.steps.are_left() {
                    return false;
                }
                answers.push(act(state, at, given));
            }
            true
        });
        let ended = parts.await;
        (answers, ended)
    }

    /// One call, unless more is due than can be applied at once.
    pub(crate) fn try_call<R>(&self, act: impl FnOnce(&mut State) -> R) -> Option<R> {
        self.queue.try_call(&self.meter, act)
    }

    /// The same at this moment, or later where another call has seen a later one.
    pub(crate) fn try_call_at<R>(&self, now: At, act: impl FnOnce(&mut State) -> R) -> Option<R> {
        self.queue.try_call_at(now, &self.meter, act)
    }

    /// One call that does not need to know all that is due.
    pub(crate) fn hold<R>(&self, act: impl FnOnce(&mut QueueState, &mut Wakers) -> R) -> R {
        self.queue.hold(&self.meter, |State { queue, wakers }| act(queue, wakers))
    }

    /// Whether both are of one queue.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.queue, &other.queue)
    }

    /// Whether both are of one queue.
    pub(crate) fn is_of(&self, queue: &Arc<LockedQueue>) -> bool {
        Arc::ptr_eq(&self.queue, queue)
    }

    pub(crate) fn terms(&self) -> &Terms {
        &self.queue.terms
    }
}

/// One call to several queues, which nobody sees half done, unless more is due in one of them than can be applied at once.
/// They must be in the order of their names, as always: so no two such calls wait for each other.
pub(crate) fn try_call_all<R>(
    queue_refs: &[QueueRef],
    act: impl FnOnce(&mut [&mut State]) -> R,
) -> Option<R> {
    let together = queue_refs.len();
    let mut locked: Vec<_> = queue_refs.iter().map(|queue_ref| queue_ref.queue.enter(together)).collect();
    let ready = locked.iter().all(|state| state.queue.is_caught_up());
    let answer = ready.then(|| act(&mut locked.iter_mut().map(|state| &mut **state).collect::<Vec<_>>()));
    let after: Vec<_> =
        locked.iter_mut().zip(queue_refs).map(|(state, queue_ref)| state.leave(&queue_ref.meter)).collect();
    drop(locked);
    after.into_iter().for_each(After::finish);
    if answer.is_none() {
        // Alone, each of them gets on faster.
        queue_refs.iter().for_each(|queue_ref| queue_ref.hold(|_, _| ()));
    }
    answer
}
