//! One publish under way: each message is judged and stored in one step, in every queue that it reaches or in none.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use polyqueue::{Destination, Error, Message, Published, Result};
use tokio::time::{Sleep, sleep_until};

use crate::broker::clock::At;
use crate::broker::locked_queue::State;
use crate::broker::queue_ref::{QueueRef, call_all};
use crate::broker::state::ids::WaiterId;
use crate::broker::state::publish;
use crate::broker::state::stored::Stored;
use crate::connection::handle::Handle;
use crate::publish::fan_out::{Put, check_keys, is_held_back, put};

/// A publish under way.
pub(crate) struct PendingPublish<'a> {
    handle: &'a Handle,
    to: &'a Destination,
    /// What has no answer yet, in the order of the batch.
    left: VecDeque<Result<Box<Stored>>>,
    /// The first message with a dedup key.
    keyed: Option<usize>,
    answers: Vec<Result<Published>>,
    waiting: Option<BlockedPublish>,
}

/// What waits for room.
struct BlockedPublish {
    waiter: WaiterId,
    deadline: At,
    /// The queues that it stands at.
    queue_refs: Vec<QueueRef>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Until when to sleep, unless woken.
type SleepUntil = At;

impl<'a> PendingPublish<'a> {
    pub(crate) fn new(handle: &'a Handle, to: &'a Destination, batch: Vec<Message>) -> Self {
        let now = handle.wall();
        let keyed = batch.iter().position(|message| message.dedup_key().is_some());
        let item = |message| handle.keep(message, now).map(|(message, room)| Stored::new(message, room));
        let answers = Vec::with_capacity(batch.len());
        let left = batch.into_iter().map(item).collect();
        Self { handle, to, left, keyed, answers, waiting: None }
    }

    /// Stores what can be stored now; `None` when every message has its answer.
    ///
    /// # Errors
    /// What befalls all that are left.
    fn step(&mut self, waker: &Waker) -> Result<Option<SleepUntil>> {
        match self.to {
            Destination::Queue(name) => {
                let queue_ref = self.handle.queue(name)?;
                let step = queue_ref.call_state(|state| self.store(&mut [state], waker))?;
                self.stand_at(step.is_some().then_some(queue_ref).into_iter().collect());
                Ok(step)
            }
            Destination::Topic(key) => {
                let queues = self.handle.namespace.queues.read();
                let queue_refs = queues.reached(key, &self.handle.meter)?;
                let (step, finish) = call_all(&queue_refs, |states| self.store(states, waker));
                drop(queues);
                finish();
                let step = step?;
                self.stand_at(if step.is_some() { queue_refs } else { Vec::new() });
                Ok(step)
            }
            Destination::Reply(_) => Err(Error::not_found(self.to.clone())),
        }
    }

    fn store(&mut self, states: &mut [&mut State], waker: &Waker) -> Result<Option<SleepUntil>> {
        if states.iter().any(|state| state.queue.is_deleted()) {
            return Err(Error::not_found(self.to.clone()));
        }
        if self.answers.is_empty() {
            check_keys(states, self.keyed)?;
        }
        let mut step = None;
        while let Some(next) = self.left.pop_front() {
            match next.map(|item| put(states, item)) {
                Err(full) => self.answers.push(Err(full)),
                Ok(Put::Done(answer)) => self.answers.push(answer),
                Ok(Put::Wait(item)) => {
                    self.left.push_front(Ok(item));
                    step = self.wait(states, waker);
                    break;
                }
            }
        }
        states.iter_mut().for_each(|state| publish::announce(&mut state.queue));
        Ok(step)
    }

    /// Stands where there is no room, or gives up when the deadline has passed.
    fn wait(&mut self, states: &mut [&mut State], waker: &Waker) -> Option<SleepUntil> {
        let (now, Some(Ok(item))) = (states.first()?.queue.now(), self.left.front()) else { return None };
        let waiting = self.waiting.get_or_insert_with(|| BlockedPublish::new(now.plus(self.handle.deadline)));
        let mut until = waiting.deadline;
        let late = until <= now;
        for state in states.iter_mut() {
            if !is_held_back(state, item) || late {
                state.queue.stop_awaiting(waiting.waiter);
                continue;
            }
            until = until.min(state.queue.await_room(waiting.waiter).unwrap_or(until));
            state.wakers.insert(waiting.waiter, waker.clone());
        }
        if late {
            self.time_out(states);
        }
        (!late).then_some(until)
    }

    fn time_out(&mut self, states: &mut [&mut State]) {
        let late = || Error::no_room(self.to.clone(), self.handle.deadline);
        for item in self.left.drain(..) {
            let late = item.and_then(|item| {
                let held_back =
                    states.iter_mut().filter_map(|state| is_held_back(state, &item).then_some(state));
                held_back.for_each(|state| state.queue.refuse());
                Err(late())
            });
            self.answers.push(late);
        }
    }

    /// Leaves the queues where it waits no more.
    fn stand_at(&mut self, queue_refs: Vec<QueueRef>) {
        let Some(waiting) = &mut self.waiting else { return };
        for left in std::mem::replace(&mut waiting.queue_refs, queue_refs) {
            if waiting.queue_refs.iter().any(|queue_ref| queue_ref.is(&left)) {
                continue;
            }
            left.call_waiting(|queue, wakers| {
                queue.stop_awaiting(waiting.waiter);
                wakers.remove(&waiting.waiter);
            });
        }
    }

    /// How the call ends when the rest of it cannot be stored.
    fn fail(&mut self, error: Error) -> Result<Vec<Result<Published>>> {
        if self.answers.is_empty() {
            return Err(error);
        }
        let mut answers = std::mem::take(&mut self.answers);
        answers.extend(self.left.drain(..).map(|_| Err(error.clone())));
        Ok(answers)
    }

    /// To be woken by a close as well; whether the time has come.
    fn poll_wait(&mut self, until: At, context: &mut Context<'_>) -> Poll<()> {
        let Some(waiting) = &mut self.waiting else { return Poll::Ready(()) };
        self.handle.publishes.lock().insert(waiting.waiter, context.waker().clone());
        if self.handle.lifecycle.check_open().is_err() {
            return Poll::Ready(());
        }
        let at = self.handle.clock.instant(until);
        let timer = waiting.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(context)
    }
}

impl BlockedPublish {
    fn new(deadline: At) -> Self {
        Self { waiter: WaiterId::next(), deadline, queue_refs: Vec::new(), timer: None }
    }
}

impl Future for PendingPublish<'_> {
    type Output = Result<Vec<Result<Published>>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let open = self.handle.lifecycle.check_open();
            match open.and_then(|()| self.step(context.waker())) {
                Ok(None) => return Poll::Ready(Ok(std::mem::take(&mut self.answers))),
                Ok(Some(until)) => std::task::ready!(self.poll_wait(until, context)),
                Err(error) => return Poll::Ready(self.fail(error)),
            }
        }
    }
}

impl Drop for PendingPublish<'_> {
    fn drop(&mut self) {
        self.stand_at(Vec::new());
        if let Some(waiting) = &self.waiting {
            self.handle.publishes.lock().remove(&waiting.waiter);
        }
    }
}
