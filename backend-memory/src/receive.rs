//! A receive under way: what it brings is taken in the very poll that ends it, so that dropping it loses nothing.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use polyqueue::{Delivery, Result};
use tokio::time::{Sleep, sleep_until};

use crate::clock::At;
use crate::consumer::MemoryConsumer;
use crate::line::{Asked, Ticket};

/// A receive under way.
pub(crate) struct Receive<'a> {
    consumer: &'a MemoryConsumer,
    max: usize,
    wait: Duration,
    /// Where it stands in the queue of those who wait, and until when.
    waiting: Option<(Ticket, At)>,
    timer: Option<Pin<Box<Sleep>>>,
}

enum Step {
    Done(Result<Vec<Delivery>>),
    SleepUntil(At),
}

impl<'a> Receive<'a> {
    pub(crate) fn new(consumer: &'a MemoryConsumer, max: usize, wait: Duration) -> Self {
        Self { consumer, max, wait, waiting: None, timer: None }
    }

    fn step(&mut self, waker: &Waker) -> Step {
        let consumer = self.consumer;
        let cell = &consumer.cell;
        let step = cell.call_waiting(|line, wakers| {
            if let Err(error) = consumer.check_open(line) {
                return Ok(Err(error));
            }
            let (ticket, deadline) = match self.waiting {
                None => match line.ask(consumer.id, self.max, !self.wait.is_zero()) {
                    Asked::Handed(handed) => return Ok(Ok(handed)),
                    Asked::Wait(ticket) => (ticket, line.now().plus(self.wait)),
                },
                Some((ticket, deadline)) => match line.fetch(ticket) {
                    Some(answer) => return Ok(consumer.answered(answer)),
                    None if deadline <= line.now() => return Ok(Ok(Vec::new())),
                    None => (ticket, deadline),
                },
            };
            self.waiting = Some((ticket, deadline));
            wakers.insert(ticket, waker.clone());
            Err(line.keep_time(ticket).map_or(deadline, |due| due.min(deadline)))
        });
        match step {
            Ok(answer) => {
                self.give_up();
                Step::Done(answer.map(|handed| handed.into_iter().map(|one| consumer.deliver(one)).collect()))
            }
            Err(at) => Step::SleepUntil(at),
        }
    }

    /// Leaves the queue of those who wait; what was handed over and not fetched goes back.
    fn give_up(&mut self) {
        let Some((ticket, _)) = self.waiting.take() else { return };
        self.consumer.cell.call_waiting(|line, wakers| {
            wakers.remove(&ticket);
            line.cancel(ticket);
        });
    }

    /// Whether the time has come.
    fn poll_timer(&mut self, at: At, context: &mut Context<'_>) -> Poll<()> {
        let at = self.consumer.cell.clock.instant(at);
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
                Step::Done(answer) => return Poll::Ready(answer),
                Step::SleepUntil(at) => std::task::ready!(self.poll_timer(at, context)),
            }
        }
    }
}

impl Drop for Receive<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}
