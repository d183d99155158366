//! A receive under way: what it brings is taken in the very poll that ends it, so that dropping it loses nothing.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use polyqueue::backend::Deadline;
use polyqueue::{Certainty, Delivery, Result};
use tokio::time::{Sleep, sleep_until};

use crate::broker::clock::At;
use crate::broker::locked_queue::State;
use crate::broker::state::consume;
use crate::broker::state::consume::ReceiveOutcome;
use crate::broker::state::ids::{HandedOut, WaiterId};
use crate::broker::state::queue_state::QueueState;
use crate::consume::subscription::Subscribed;

/// A receive under way.
pub(crate) struct Receive<'a> {
    consumer: &'a Subscribed,
    max: usize,
    wait: Duration,
    /// Until when it may go on with what is due, beyond its wait.
    limit: Deadline,
    /// Where it stands in the queue of those who wait, and until when.
    waiting: Option<(WaiterId, At)>,
    timer: Option<Pin<Box<Sleep>>>,
}

enum Step {
    Done(Result<Vec<HandedOut>>),
    SleepUntil(At),
    /// More is to be done than under one hold of the lock.
    GoOn,
}

impl<'a> Receive<'a> {
    pub(crate) fn new(consumer: &'a Subscribed, max: usize, wait: Duration) -> Self {
        let limit = Deadline::new("receive", wait.saturating_add(consumer.handle.deadline));
        Self { consumer, max, wait, limit, waiting: None, timer: None }
    }

    fn step(&mut self, waker: &Waker) -> Step {
        let consumer = self.consumer;
        let step = consumer.queue.try_call(|State { queue, wakers }| {
            if let Some(answer) = self.look(queue) {
                return Step::Done(answer);
            }
            let Some((waiter, deadline)) = self.waiting else { return Step::GoOn };
            wakers.insert(waiter, waker.clone());
            if !queue.is_caught_up() {
                return Step::GoOn;
            }
            Step::SleepUntil(consume::keep_time(queue, waiter).map_or(deadline, |due| due.min(deadline)))
        });
        let step = step.unwrap_or(Step::GoOn);
        if matches!(step, Step::Done(_)) {
            self.give_up();
        }
        step
    }

    /// How it ends, if it ends now; else it stands among those who wait.
    fn look(&mut self, queue: &mut QueueState) -> Option<Result<Vec<HandedOut>>> {
        if let Err(error) = self.consumer.check_open(queue) {
            return Some(Err(error));
        }
        let Some((waiter, deadline)) = self.waiting else {
            return match consume::begin_receive(queue, self.consumer.id, self.max, !self.wait.is_zero()) {
                ReceiveOutcome::HandedOut(handed) => Some(Ok(handed)),
                ReceiveOutcome::Wait(waiter) => {
                    self.waiting = Some((waiter, queue.now().plus(self.wait)));
                    None
                }
                ReceiveOutcome::GoOn => None,
            };
        };
        match consume::fetch(queue, waiter) {
            Some(answer) => Some(self.consumer.answered(answer)),
            None => (deadline <= queue.now()).then(|| Ok(Vec::new())),
        }
    }

    /// Leaves the queue of those who wait; what was handed over and not fetched goes back.
    fn give_up(&mut self) {
        let Some((waiter, _)) = self.waiting.take() else { return };
        self.consumer.queue.hold(|queue, wakers| {
            wakers.remove(&waiter);
            consume::cancel(queue, waiter);
        });
    }

    fn deliver(&self, handed: Vec<HandedOut>) -> Vec<Delivery> {
        handed.into_iter().map(|handed| self.consumer.deliver(handed)).collect()
    }

    /// Whether the time has come.
    fn poll_timer(&mut self, at: At, context: &mut Context<'_>) -> Poll<()> {
        let at = self.consumer.queue.clock().instant(at);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(context)
    }
}

impl Future for Receive<'_> {
    type Output = Result<Vec<Delivery>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.step(context.waker()) {
                Step::Done(answer) => return Poll::Ready(answer.map(|handed| self.deliver(handed))),
                Step::SleepUntil(at) => std::task::ready!(self.poll_timer(at, context)),
                Step::GoOn if self.limit.is_over() => {
                    return Poll::Ready(Err(self.limit.error(Certainty::Definite)));
                }
                Step::GoOn => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }
}

impl Drop for Receive<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}
