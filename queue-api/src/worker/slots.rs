//! The tasks in which the handlers of one queue run: as many as may run at a time, made when they are first needed, and kept.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::task::{JoinSet, coop::consume_budget, yield_now};
use tokio::time::{Instant, Sleep, sleep_until};

use super::execute::{Ended, supervised};
use super::handoff::{Handoff, SHORT};
use super::job::Job;
use super::plan::Plan;
use super::route::Route;
use super::tasks::unbroken;
use super::turn::Backlog;

/// A job that may be begun.
pub(super) struct Work {
    /// Its place in the runner's table.
    pub(super) place: usize,
    pub(super) job: Job<()>,
    pub(super) route: Arc<Route>,
    pub(super) since: Instant,
}

/// How the job in this place of the runner's table ended.
pub(super) type End = (usize, Ended);

/// The tasks, and the runner's side of what they share.
pub(super) struct Slots {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    most: usize,
    /// When to look after jobs that wait.
    look: Option<std::pin::Pin<Box<Sleep>>>,
    is_looking: bool,
}

struct Shared {
    plan: Arc<Plan>,
    handoff: Handoff<Work, End>,
    backlog: Backlog,
}

impl Slots {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        let threads = Handle::current().metrics().num_workers();
        let (most, backlog) = (plan.concurrency, Backlog::new(plan.concurrency));
        let shared = Arc::new(Shared { plan, handoff: Handoff::new(threads), backlog });
        Self { shared, tasks: JoinSet::new(), most, look: None, is_looking: false }
    }

    pub(super) fn backlog(&self) -> &Backlog {
        &self.shared.backlog
    }

    /// How many jobs no task has begun.
    pub(super) fn queued(&self) -> usize {
        self.shared.handoff.queued()
    }

    /// Begins jobs, or puts them behind those that wait.
    pub(super) fn offer(&mut self, jobs: Vec<Work>) {
        let wanted = (self.shared.handoff.busy() + self.queued() + jobs.len()).min(self.most);
        for _ in self.shared.handoff.tasks()..wanted {
            let (task, shared) = (self.shared.handoff.add_task(), self.shared.clone());
            self.tasks.spawn(async move { shared.run(task).await });
        }
        let is_left = self.shared.handoff.offer(jobs);
        self.look_again(is_left);
    }

    /// What ended, when it is to be judged. May be dropped at any point.
    pub(super) async fn ended(&mut self, ended: &mut Vec<End>) {
        let is_left = {
            let look = async {
                match &mut self.look {
                    Some(look) if self.is_looking => look.as_mut().await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = poll_fn(|context| self.shared.handoff.poll_ended(ended, context)) => return,
                Some(broken) = self.tasks.join_next() => return unbroken(broken),
                () = look => self.shared.handoff.look(ended),
            }
        };
        self.look_again(is_left);
    }

    fn look_again(&mut self, is_left: bool) {
        self.is_looking = is_left;
        if self.is_looking {
            let at = Instant::now() + SHORT;
            match &mut self.look {
                Some(look) => look.as_mut().reset(at),
                None => self.look = Some(Box::pin(sleep_until(at))),
            }
        }
    }

    /// Takes back what no task has begun and was offered by then.
    pub(super) fn withdraw(&self, until: Instant) -> Vec<Work> {
        self.shared.handoff.withdraw(|work| work.since <= until)
    }

    /// Whether no job waits, and the last ones ended at once.
    pub(super) fn is_ahead(&self) -> bool {
        self.shared.handoff.is_ahead()
    }

    /// Drops all handlers, each of which ends by that.
    pub(super) fn abort(&mut self) {
        self.tasks.abort_all();
    }
}

impl Shared {
    /// One task: a job, and then the next.
    async fn run(&self, task: usize) {
        loop {
            let work = poll_fn(|context| self.handoff.poll_job(task, context)).await;
            if self.run_one(work).await { yield_now().await } else { consume_budget().await }
        }
    }

    async fn run_one(&self, Work { place, job, route, .. }: Work) -> bool {
        let mut busy = Busy { handoff: &self.handoff, place, has_waited: false, is_over: false };
        let others = self.handoff.busy().saturating_sub(1);
        let free = self.plan.concurrency.saturating_sub(others);
        let run = AssertUnwindSafe(supervised(route, job, &self.backlog, free)).catch_unwind();
        let mut run = pin!(run);
        let ended = poll_fn(|context| match run.as_mut().poll(context) {
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending => {
                busy.waits();
                Poll::Pending
            }
        });
        let ended = ended.await.unwrap_or_else(|panic: Box<dyn Any + Send>| Ended::Panicked(panic));
        busy.over(ended)
    }
}

/// A job that a task has begun. Dropped with it, it has ended, too.
struct Busy<'a> {
    handoff: &'a Handoff<Work, End>,
    place: usize,
    has_waited: bool,
    is_over: bool,
}

impl Busy<'_> {
    fn waits(&mut self) {
        if !self.has_waited {
            self.has_waited = true;
            self.handoff.waits();
        }
    }

    fn over(&mut self, ended: Ended) -> bool {
        self.is_over = true;
        self.handoff.ended((self.place, ended), self.has_waited)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.over(Ended::Dropped);
        }
    }
}
