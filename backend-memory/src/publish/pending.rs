//! One publish under way: each message is judged and stored in one step, in every queue that it reaches or in none.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::slice;
use std::task::{Context, Poll, Waker};

use chrono::{DateTime, Utc};
use polyqueue::backend::Deadline;
use polyqueue::{Certainty, Destination, Error, Message, Published, Result, RoutingKey};
use tokio::time::{Sleep, sleep_until};

use crate::broker::clock::At;
use crate::broker::locked_queue::State;
use crate::broker::queue_ref::{QueueRef, try_call_all};
use crate::broker::state::ids::WaiterId;
use crate::broker::state::publish;
use crate::broker::state::stored::Stored;
use crate::connection::handle::Handle;
use crate::publish::fan_out::{Put, are_reached, check_keys, is_held_back, keep_keys, put, store_copy};

/// A publish under way.
pub(crate) struct PendingPublish<'a> {
    handle: &'a Handle,
    to: &'a Destination,
    /// What has no answer yet, in the order of the batch.
    left: VecDeque<Result<Box<Stored>>>,
    /// The first message with a dedup key.
    keyed: Option<usize>,
    answers: Vec<Result<Published>>,
    limit: Deadline,
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

/// So many queues are held together at most; more get a message one after the other, those first that may refuse it.
const TOGETHER: usize = 32;

enum Step {
    /// Every message has its answer.
    Done,
    /// Until then, unless woken.
    SleepUntil(At),
    /// More is to be done than under one hold of the locks.
    GoOn,
}

impl<'a> PendingPublish<'a> {
    pub(crate) fn new(
        handle: &'a Handle,
        to: &'a Destination,
        batch: Vec<Message>,
        now: DateTime<Utc>,
    ) -> Self {
        let keyed = batch.iter().position(|message| message.dedup_key().is_some());
        let item = |message| handle.keep(message, now).map(|(message, room)| Stored::new(message, room));
        let answers = Vec::with_capacity(batch.len());
        let left = batch.into_iter().map(item).collect();
        let limit = handle.deadline("publish");
        Self { handle, to, left, keyed, answers, limit, waiting: None }
    }

    /// Stores what can be stored now.
    ///
    /// # Errors
    /// What befalls all that are left.
    fn step(&mut self, waker: &Waker) -> Result<Step> {
        match self.to {
            Destination::Queue(name) => {
                let queue_ref = self.handle.queue(name)?;
                self.check_keys(slice::from_ref(&queue_ref))?;
                let keeps_keys = queue_ref.terms().keeps_keys;
                let step = queue_ref.try_call(|state| match state.queue.is_deleted() {
                    true => Err(Error::not_found(self.to.clone())),
                    false => Ok(self.store(&mut [state], keeps_keys, 0, &mut Vec::new(), waker)),
                });
                let step = step.unwrap_or(Ok(Step::GoOn))?;
                self.stand_at(matches!(step, Step::SleepUntil(_)).then_some(queue_ref).into_iter().collect());
                Ok(step)
            }
            Destination::Topic(key) => {
                let queue_refs = self.handle.namespace.reached(key, &self.handle.meter)?;
                self.check_keys(&queue_refs)?;
                Ok(self.fan_out(key, queue_refs, waker))
            }
            Destination::Reply(_) => Err(Error::not_found(self.to.clone())),
        }
    }

    fn check_keys(&self, queue_refs: &[QueueRef]) -> Result<()> {
        if self.answers.is_empty() { check_keys(queue_refs, self.keyed) } else { Ok(()) }
    }

    /// Stores in all these queues together; of very many, one message in those that may refuse it and then in the others.
    fn fan_out(&mut self, key: &RoutingKey, queue_refs: Vec<QueueRef>, waker: &Waker) -> Step {
        let keeps_keys = keep_keys(&queue_refs);
        let few = queue_refs.len() <= TOGETHER;
        let first = self.left.front().and_then(|next| next.as_ref().ok());
        let (refusing, open): (Vec<_>, Vec<_>) = queue_refs
            .into_iter()
            .partition(|to| few || first.is_some_and(|item| to.terms().may_refuse(&item.message)));
        let handle = self.handle;
        let mut copies = Vec::new();
        let step = try_call_all(&refusing, |states| match are_reached(handle, key, &refusing) {
            true => self.store(states, keeps_keys, open.len(), &mut copies, waker),
            false => Step::GoOn,
        });
        open.iter().zip(copies).for_each(|(to, copy)| store_copy(handle, key, to, copy));
        let step = step.unwrap_or(Step::GoOn);
        self.stand_at(if matches!(step, Step::SleepUntil(_)) { refusing } else { Vec::new() });
        step
    }

    /// Stores as many as there are steps for, or one that goes to so many more queues, with a copy for each of them.
    fn store(
        &mut self,
        states: &mut [&mut State],
        keeps_keys: bool,
        more: usize,
        copies: &mut Vec<Box<Stored>>,
        waker: &Waker,
    ) -> Step {
        let mut until = None;
        while states.iter().all(|state| state.queue.steps.are_left())
            && let Some(next) = self.left.pop_front()
        {
            match next.map(|item| put(states, item, keeps_keys, more)) {
                Err(full) => self.answers.push(Err(full)),
                Ok(Put::Done(answer, rest)) => {
                    self.answers.push(answer);
                    *copies = rest;
                }
                Ok(Put::GoOn(item)) => {
                    self.left.push_front(Ok(item));
                    break;
                }
                Ok(Put::Wait(item)) => {
                    self.left.push_front(Ok(item));
                    until = self.wait(states, waker);
                    break;
                }
            }
            if more > 0 {
                break;
            }
        }
        states.iter_mut().for_each(|state| publish::announce(&mut state.queue));
        match until {
            Some(until) => Step::SleepUntil(until),
            None if self.left.is_empty() => Step::Done,
            None => Step::GoOn,
        }
    }

    /// Stands where there is no room, or gives up when the deadline has passed.
    fn wait(&mut self, states: &mut [&mut State], waker: &Waker) -> Option<At> {
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

    /// As many as there are steps for.
    fn time_out(&mut self, states: &mut [&mut State]) {
        while states.iter().all(|state| state.queue.steps.are_left())
            && let Some(item) = self.left.pop_front()
        {
            let late = item.and_then(|item| {
                let held_back =
                    states.iter_mut().filter_map(|state| is_held_back(state, &item).then_some(state));
                held_back.for_each(|state| state.queue.refuse());
                Err(Error::no_room(self.to.clone(), self.handle.deadline))
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
            left.hold(|queue, wakers| {
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
                Ok(Step::Done) => return Poll::Ready(Ok(std::mem::take(&mut self.answers))),
                Ok(Step::SleepUntil(until)) => std::task::ready!(self.poll_wait(until, context)),
                // Who waits for room has a time of his own, and an error that says so.
                Ok(Step::GoOn) if self.waiting.is_none() && self.limit.is_over() => {
                    let late = self.limit.error(Certainty::Definite);
                    return Poll::Ready(self.fail(late));
                }
                Ok(Step::GoOn) => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
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
