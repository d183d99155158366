//! From a queue's runner to the tasks of its handlers and back: jobs that wait for a task, tasks that wait for a job, and what ended.
//!
//! A task runs what it finds, one job after the other. No more of them are woken than there is use for: one while handlers end at once,
//! as many as the runtime has threads where they take time, and one more for each handler that waits for something. What ended is
//! told together, for a call to the broker costs nearly the same for one as for many.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What takes less costs less than to wake another thread for it.
const SHORT: Duration = Duration::from_micros(10);
/// So many that ended are told though more jobs wait.
const TOLD: usize = 64;

/// Between one runner and its tasks.
pub(super) struct Handoff<J, E> {
    state: Mutex<State<J, E>>,
    /// Of the runtime.
    threads: usize,
}

struct State<J, E> {
    jobs: VecDeque<J>,
    tasks: Vec<Task>,
    /// Those that parked, the last at the end. One that found a job unasked may still stand here.
    idle: Vec<usize>,
    coming: usize,
    busy: usize,
    /// Of the busy ones, those whose handler waits for something.
    waiting: usize,
    ended: Vec<E>,
    runner: Option<Waker>,
    is_told: bool,
    /// Handlers take time: decided again and again, by what they did lately.
    is_slow: bool,
    lately: Lately,
}

/// What handlers did since some time.
struct Lately {
    since: Instant,
    ended: u32,
    /// One has waited for something.
    has_waited: bool,
}

enum Task {
    /// It has no job.
    Parked(Waker),
    /// It was woken, or is new, and looks for a job soon.
    Coming,
    Busy,
}

impl<J, E> Handoff<J, E> {
    /// All that what follows depends on, but for whom it wakes.
    #[cfg(test)]
    pub(super) fn described(&self) -> String
    where
        J: std::fmt::Debug,
        E: std::fmt::Debug,
    {
        let state = self.state.lock();
        let tasks: Vec<_> = state.tasks.iter().map(std::mem::discriminant).collect();
        let lately = (state.lately.since.elapsed(), state.lately.ended, state.lately.has_waited);
        let counts = (state.coming, state.busy, state.waiting, state.is_told, state.is_slow, lately);
        let (jobs, idle, ended) = (&state.jobs, &state.idle, &state.ended);
        format!("{tasks:?} {jobs:?} {idle:?} {ended:?} {counts:?} {}", state.runner.is_some())
    }

    pub(super) fn new(threads: usize) -> Self {
        let state = State {
            jobs: VecDeque::new(),
            tasks: Vec::new(),
            idle: Vec::new(),
            coming: 0,
            busy: 0,
            waiting: 0,
            ended: Vec::new(),
            runner: None,
            is_told: false,
            is_slow: false,
            lately: Lately::new(),
        };
        Self { state: Mutex::new(state), threads: threads.max(1) }
    }

    /// One more task, by its number: it is expected to ask for a job.
    pub(super) fn add_task(&self) -> usize {
        let mut state = self.state.lock();
        state.tasks.push(Task::Coming);
        state.coming += 1;
        state.tasks.len() - 1
    }

    /// How many tasks have a job.
    pub(super) fn busy(&self) -> usize {
        self.state.lock().busy
    }

    /// How many jobs there are, those that have a task counted.
    pub(super) fn held(&self) -> usize {
        let state = self.state.lock();
        state.busy + state.jobs.len()
    }

    /// What is asked of the job that has no task for the longest time.
    pub(super) fn ask_first<R>(&self, ask: impl FnOnce(&J) -> R) -> Option<R> {
        self.state.lock().jobs.front().map(ask)
    }

    /// Jobs for the tasks. Answers whether somebody is to look after them.
    pub(super) fn offer(&self, jobs: impl IntoIterator<Item = J>) -> bool {
        let mut state = self.state.lock();
        if state.busy == 0 && state.jobs.is_empty() {
            state.lately = Lately::new();
        }
        state.jobs.extend(jobs);
        let wanted = if state.is_slow { self.threads } else { 1 };
        let woken = state.wake(wanted);
        let is_left = state.is_left();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        is_left
    }

    /// Jobs have waited for a while, or what ended has. Where handlers take time, all threads are used, and one more each time, for a
    /// handler may block its own. Answers whether to look again.
    pub(super) fn look(&self, ended: &mut Vec<E>) -> bool {
        let mut state = self.state.lock();
        state.is_told = false;
        ended.append(&mut state.ended);
        state.judge_lately();
        let active = state.active();
        let wanted = if state.is_slow { self.threads.max(active + 1) } else { 1 };
        let woken = state.wake(wanted);
        let is_left = state.is_left();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        is_left
    }

    /// Takes back what no task has begun, from the first on, as long as it is to be.
    pub(super) fn withdraw(&self, is_to_be: impl Fn(&J) -> bool) -> Vec<J> {
        let mut state = self.state.lock();
        let until = state.jobs.iter().position(|job| !is_to_be(job)).unwrap_or(state.jobs.len());
        state.jobs.drain(..until).collect()
    }

    /// Whether no job waits, and the last ones ended at once.
    pub(super) fn is_ahead(&self) -> bool {
        let state = self.state.lock();
        state.jobs.is_empty() && !state.is_slow
    }

    /// The next job for this task.
    pub(super) fn poll_job(&self, task: usize, context: &Context<'_>) -> Poll<J> {
        let mut state = self.state.lock();
        let was_parked = matches!(state.tasks[task], Task::Parked(_));
        if matches!(state.tasks[task], Task::Coming) {
            state.coming -= 1;
        }
        match state.jobs.pop_front() {
            Some(job) => {
                state.tasks[task] = Task::Busy;
                state.busy += 1;
                Poll::Ready(job)
            }
            None => {
                state.tasks[task] = Task::Parked(context.waker().clone());
                if !was_parked {
                    state.idle.push(task);
                }
                Poll::Pending
            }
        }
    }

    /// A handler waits for something: another may run meanwhile.
    pub(super) fn waits(&self) {
        let mut state = self.state.lock();
        state.waiting += 1;
        state.lately.has_waited = true;
        let woken = state.wake(1);
        let runner = if state.ended.is_empty() { None } else { state.tell() };
        drop(state);
        woken.into_iter().chain(runner).for_each(Waker::wake);
    }

    /// A job ended, of a handler that has waited or not. Answers whether the runner was told while more jobs wait: it must run before
    /// the next handler, which may block this thread.
    pub(super) fn ended(&self, end: E, has_waited: bool) -> bool {
        let mut state = self.state.lock();
        state.busy -= 1;
        state.waiting -= usize::from(has_waited);
        state.ended.push(end);
        state.lately.ended += 1;
        if state.ended.len() >= TOLD || state.busy == 0 && state.jobs.is_empty() {
            state.judge_lately();
        }
        let tells = state.jobs.is_empty() || state.is_slow || has_waited || state.ended.len() >= TOLD;
        let runner = if tells { state.tell() } else { None };
        let is_first = tells && !state.jobs.is_empty();
        drop(state);
        runner.into_iter().for_each(Waker::wake);
        is_first
    }

    /// What ended, once it is to be told.
    pub(super) fn poll_ended(&self, ended: &mut Vec<E>, context: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.is_told) {
            ended.append(&mut state.ended);
            return Poll::Ready(());
        }
        match &mut state.runner {
            Some(runner) => runner.clone_from(context.waker()),
            runner => *runner = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl<J, E> State<J, E> {
    /// How many tasks run, or will.
    fn active(&self) -> usize {
        self.coming + self.busy - self.waiting
    }

    /// Tasks to be woken, so that so many are active while there are jobs for them.
    fn wake(&mut self, wanted: usize) -> Vec<Waker> {
        let mut woken = Vec::new();
        while self.active() < wanted && self.coming < self.jobs.len() {
            let Some(task) = self.idle.pop() else { break };
            if let Task::Parked(_) = &self.tasks[task]
                && let Task::Parked(waker) = std::mem::replace(&mut self.tasks[task], Task::Coming)
            {
                self.coming += 1;
                woken.push(waker);
            }
        }
        woken
    }

    /// Decides whether handlers take time.
    fn judge_lately(&mut self) {
        self.is_slow = std::mem::replace(&mut self.lately, Lately::new()).is_slow();
    }

    /// Whether somebody is to look: jobs wait though tasks have none; or, where ends are told together, the first of them may wait for
    /// a handler that takes long.
    fn is_left(&self) -> bool {
        let is_free = self.tasks.len() > self.coming + self.busy;
        match self.is_slow {
            true => is_free && self.jobs.len() > self.coming,
            false => !self.jobs.is_empty() && self.jobs.len() + self.busy > 1,
        }
    }

    /// Tells the runner that there is something for it.
    fn tell(&mut self) -> Option<Waker> {
        self.is_told = true;
        self.runner.take()
    }
}

impl Lately {
    fn new() -> Self {
        Self { since: Instant::now(), ended: 0, has_waited: false }
    }

    fn is_slow(&self) -> bool {
        // And a little for the wake of the first.
        self.has_waited || self.since.elapsed() > SHORT * (self.ended + 2)
    }
}
