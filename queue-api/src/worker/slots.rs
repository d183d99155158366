//! The tasks in which the handlers of one queue run: as many as may run at a time, made when they are first needed, and kept.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::task::{JoinSet, coop::consume_budget, yield_now};
use tokio::time::{Instant, Sleep, sleep_until};

use super::execute::{Ended, supervised};
use super::handoff::Handoff;
use super::job::Job;
use super::plan::Plan;
use super::route::Route;
use super::tasks::unbroken;
use super::turn::Backlog;

/// How long jobs may wait for a task, and what ended for being told, before somebody looks.
const LOOK: Duration = Duration::from_millis(1);

/// A job that may be begun.
pub(super) struct Work {
    /// Its place among those that run.
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
    /// So many more tasks may be made.
    more: usize,
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
        let (more, backlog) = (plan.concurrency, Backlog::new(plan.concurrency));
        let shared = Arc::new(Shared { plan, handoff: Handoff::new(threads), backlog });
        Self { shared, tasks: JoinSet::new(), more, look: None, is_looking: false }
    }

    pub(super) fn backlog(&self) -> &Backlog {
        &self.shared.backlog
    }

    /// Since when the one waits that no task has begun for the longest time.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.shared.handoff.ask_first(|work| work.since)
    }

    /// Begins jobs, or puts them behind those that wait.
    pub(super) fn offer(&mut self, jobs: Vec<Work>) {
        if self.more > 0 {
            self.add_tasks(self.shared.handoff.held() + jobs.len());
        }
        // A look that is due stays due: offers without end must not put it off.
        if self.shared.handoff.offer(jobs) && !self.is_looking {
            self.look_in_a_while();
        }
    }

    /// More tasks, where there are fewer than are wanted.
    fn add_tasks(&mut self, wanted: usize) {
        for _ in 0..wanted.saturating_sub(self.tasks.len()).min(self.more) {
            self.more -= 1;
            let (task, shared) = (self.shared.handoff.add_task(), self.shared.clone());
            self.tasks.spawn(async move { shared.run(task).await });
        }
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
        self.is_looking = false;
        if is_left {
            self.look_in_a_while();
        }
    }

    fn look_in_a_while(&mut self) {
        self.is_looking = true;
        let at = Instant::now() + LOOK;
        match &mut self.look {
            Some(look) => look.as_mut().reset(at),
            None => self.look = Some(Box::pin(sleep_until(at))),
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
        let free = || (self.plan.concurrency + 1).saturating_sub(self.handoff.busy());
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
