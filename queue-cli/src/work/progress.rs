//! How far one run has come: how many commands were begun, and whether anything is left to do.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use polyqueue::{Bytes, Failure, Job, Queue, QueueName, RetryPolicy};

use super::ending::{Ending, Reason};

/// How often an idle worker asks whether its queues are empty.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How much later than its wait a message may come back.
const SLACK: Duration = Duration::from_millis(500);
/// How long a broker may take, after a stop, to answer who does nothing any more. Closing the handle takes up to 3 s more.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Counts the commands of one run.
pub(crate) struct Progress {
    max: u64,
    policy: RetryPolicy,
    ending: Arc<Ending>,
    /// Messages that came, whether or not their command began.
    entered: AtomicU64,
    /// Messages that are here.
    held: AtomicU64,
    begun: AtomicU64,
    /// When the last message that we gave back is due: not every broker can count what waits.
    back_by: Mutex<Instant>,
}

impl Progress {
    pub(crate) fn new(max: Option<u64>, policy: RetryPolicy, ending: Arc<Ending>) -> Self {
        Self {
            max: max.unwrap_or(u64::MAX),
            policy,
            ending,
            entered: AtomicU64::new(0),
            held: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            back_by: Mutex::new(Instant::now()),
        }
    }

    pub(crate) fn enter(self: &Arc<Self>, job: &Job<Bytes>) -> Run {
        self.entered.fetch_add(1, SeqCst);
        self.held.fetch_add(1, SeqCst);
        let retry = self.policy.backoff().delay(job.attempt, 0.0);
        Run { progress: self.clone(), retry, begun: false, back_after: Some(retry) }
    }

    /// Whether fewer commands ran than were wished for: some that began could not be run.
    pub(crate) fn is_short(&self) -> bool {
        self.begun.load(SeqCst) < self.max
    }

    /// After a stop: until nothing runs and the broker has had its time. What still ran at the stop is worth a lease, for as
    /// long as that its verdict can be delivered.
    pub(crate) async fn overdue(&self, lease: Duration) {
        let was_idle = self.held.load(SeqCst) == 0;
        while self.held.load(SeqCst) > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let patience = if was_idle { LAST_ANSWERS } else { lease.max(LAST_ANSWERS) };
        tokio::time::sleep(patience).await;
    }

    /// Until all queues looked empty twice in a row, for a message may be between its queue and its command.
    pub(crate) async fn empty(&self, queue: &dyn Queue, names: &[QueueName]) {
        let mut times = 0;
        while times < 2 {
            tokio::time::sleep(LOOK_EVERY).await;
            times = if self.look_empty(queue, names).await { times + 1 } else { 0 };
        }
    }

    async fn look_empty(&self, queue: &dyn Queue, names: &[QueueName]) -> bool {
        let entered = self.entered.load(SeqCst);
        for name in names {
            if self.held.load(SeqCst) > 0 || !self.looks_empty(queue, name).await {
                return false;
            }
        }
        entered == self.entered.load(SeqCst)
    }

    async fn looks_empty(&self, queue: &dyn Queue, name: &QueueName) -> bool {
        let Ok(stats) = queue.stats(name).await else { return false };
        let back_by = *self.back_by.lock().unwrap_or_else(PoisonError::into_inner);
        let none_waits = match stats.delayed {
            Some(delayed) => delayed == 0,
            None => back_by <= Instant::now(),
        };
        stats.ready == 0 && stats.in_flight.unwrap_or(0) == 0 && none_waits
    }
}

/// One message that is here.
pub(crate) struct Run {
    progress: Arc<Progress>,
    retry: Duration,
    begun: bool,
    back_after: Option<Duration>,
}

impl Run {
    /// Counts its command in; `false` when there were enough.
    pub(crate) fn begin(&mut self) -> bool {
        let progress = &self.progress;
        let room = |begun| (begun < progress.max).then_some(begun + 1);
        let counted = progress.begun.fetch_update(SeqCst, SeqCst, room);
        if counted.map_or(true, |earlier| earlier + 1 >= progress.max) {
            progress.ending.begin(Reason::Max);
        }
        self.begun = counted.is_ok();
        self.begun
    }

    /// Notes how it ended; one that is dropped without it is taken to be retried. What is given back uses up no command.
    pub(crate) fn ended(&mut self, outcome: &Result<(), Failure>) {
        self.back_after = match outcome {
            Err(Failure::Retry { .. }) => Some(self.retry),
            Err(Failure::Snooze(after)) => Some(*after),
            _ => None,
        };
        if self.begun && matches!(outcome, Err(Failure::Snooze(_))) {
            self.progress.begun.fetch_sub(1, SeqCst);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(after) = self.back_after {
            let due = Instant::now() + after + SLACK;
            let mut latest = self.progress.back_by.lock().unwrap_or_else(PoisonError::into_inner);
            *latest = due.max(*latest);
        }
        self.progress.held.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_longer_for_the_verdict_on_what_still_ran() {
        let progress = Arc::new(Progress::new(None, RetryPolicy::default(), Arc::default()));
        let (lease, began) = (Duration::from_secs(30), tokio::time::Instant::now());
        progress.overdue(lease).await;
        assert_eq!(began.elapsed(), LAST_ANSWERS);

        let run = progress.enter(&Job::of(QueueName::from_static("q"), Bytes::new()));
        let ends = async {
            tokio::time::sleep(Duration::from_secs(100)).await;
            drop(run);
        };
        tokio::join!(progress.overdue(lease), ends);
        assert!(began.elapsed() >= Duration::from_secs(130), "{:?}", began.elapsed());
    }

    #[test]
    fn what_is_given_back_uses_up_no_command_and_comes_back() {
        let ending = Arc::new(Ending::default());
        let progress = Arc::new(Progress::new(Some(1), RetryPolicy::default(), ending.clone()));
        let job = Job::of(QueueName::from_static("q"), Bytes::new());
        let mut run = progress.enter(&job);
        assert!(run.begin() && !progress.enter(&job).begin());
        assert_eq!(ending.reason(), Some(Reason::Max));
        run.ended(&Err(Failure::Snooze(Duration::from_secs(60))));
        drop(run);
        assert!(progress.is_short() && ending.resume());
        let back_by = *progress.back_by.lock().unwrap();
        assert!(back_by > Instant::now() + Duration::from_secs(50), "it is waited for");
        let mut run = progress.enter(&job);
        assert!(run.begin());
        run.ended(&Ok(()));
        assert!(!progress.is_short());
    }
}
