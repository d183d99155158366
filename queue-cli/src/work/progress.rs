//! When enough work is done: after a number of commands, or when the queue is empty.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use std::sync::{Mutex, PoisonError};

use polyqueue::{Bytes, Failure, Job, Queue, QueueName, RetryPolicy};
use tokio::sync::Notify;

/// How often an idle worker asks whether its queue is empty.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How much later than its wait a retry may come.
const RETRY_SLACK: Duration = Duration::from_millis(500);

/// Counts the commands of one run.
pub(crate) struct Progress {
    max: u64,
    policy: RetryPolicy,
    started: AtomicU64,
    running: AtomicU64,
    /// When the last retry of ours comes back: not every broker can count what waits.
    retry_due: Mutex<Instant>,
    enough: Notify,
}

impl Progress {
    pub(crate) fn new(max: Option<u64>, policy: RetryPolicy) -> Self {
        Self {
            max: max.unwrap_or(u64::MAX),
            policy,
            started: AtomicU64::new(0),
            running: AtomicU64::new(0),
            retry_due: Mutex::new(Instant::now()),
            enough: Notify::new(),
        }
    }

    /// Counts one command in; `None` when there were enough.
    pub(crate) fn start(self: &Arc<Self>, job: &Job<Bytes>) -> Option<Run> {
        let earlier = self.started.fetch_add(1, SeqCst);
        if earlier.saturating_add(1) >= self.max {
            self.enough.notify_one();
        }
        if earlier >= self.max {
            return None;
        }
        self.running.fetch_add(1, SeqCst);
        let wait = self.policy.backoff().delay(job.attempt, 0.0);
        Some(Run { progress: self.clone(), wait, comes_back: true })
    }

    /// Ends when there were enough commands, or when the queue is empty, if one is given.
    pub(crate) fn enough(
        self: &Arc<Self>,
        until_empty: Option<(Arc<dyn Queue>, QueueName)>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let progress = self.clone();
        async move {
            let empty = async {
                match until_empty {
                    Some((queue, name)) => progress.empty(&*queue, &name).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = progress.enough.notified() => {}
                () = empty => {}
            }
        }
    }

    /// Twice in a row, for a message may be between the queue and its command.
    async fn empty(&self, queue: &dyn Queue, name: &QueueName) {
        let mut times = 0;
        while times < 2 {
            tokio::time::sleep(LOOK_EVERY).await;
            times = if self.looks_empty(queue, name).await { times + 1 } else { 0 };
        }
    }

    async fn looks_empty(&self, queue: &dyn Queue, name: &QueueName) -> bool {
        let started = self.started.load(SeqCst);
        if self.running.load(SeqCst) > 0 {
            return false;
        }
        let Ok(stats) = queue.stats(name).await else { return false };
        let retry_due = *self.retry_due.lock().unwrap_or_else(PoisonError::into_inner);
        let none_waits = match stats.delayed {
            Some(delayed) => delayed == 0,
            None => retry_due <= Instant::now(),
        };
        let nothing_new = started == self.started.load(SeqCst);
        stats.ready == 0 && stats.in_flight.unwrap_or(0) == 0 && none_waits && nothing_new
    }
}

/// One command that runs.
pub(crate) struct Run {
    progress: Arc<Progress>,
    wait: Duration,
    comes_back: bool,
}

impl Run {
    /// Notes how it ended; one that is dropped without it is taken to come back.
    pub(crate) fn ended(&mut self, outcome: &Result<(), Failure>) {
        self.comes_back = matches!(outcome, Err(Failure::Retry { .. }));
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.comes_back {
            let due = Instant::now() + self.wait + RETRY_SLACK;
            let mut latest = self.progress.retry_due.lock().unwrap_or_else(PoisonError::into_inner);
            *latest = due.max(*latest);
        }
        self.progress.running.fetch_sub(1, SeqCst);
    }
}
