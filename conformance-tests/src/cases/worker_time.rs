//! Workers against the clock: heartbeats while a handler runs, and a stop that ends when it must.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{Bytes, Job, Queue, QueueName, Worker};
use tokio::time::{Instant, sleep, timeout_at};

use super::crew::{Ending, Running, Starts};
use super::deaf::Deaf;
use super::hand::{PATIENCE, brief, hold, nothing_else_is_ready, numbered, settle_all, steady};
use crate::verbs::{eventually, publish_all};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

/// A worker on one queue with brief leases and one handler at a time.
fn narrow(env: &Env, queue: &Arc<dyn Queue>) -> Worker {
    Worker::new(queue.clone()).lease(brief(env)).concurrency(1).retry(env.policy()).stop_deadline(env.t(3.0))
}

async fn heartbeats_keep_a_long_job(env: Env) -> Outcome {
    let (queue, name) = env.declared("long").await?;
    let other = env.open().await?;
    let mut starts = Starts::new();
    let crew: Vec<Running> = [&queue, &other]
        .map(|handle| Running::start(starts.of(narrow(&env, handle)), std::slice::from_ref(&name)))
        .into();
    publish_all(&queue, &name, numbered(1)).await?;
    let job = starts.next(&env).await?;
    sleep(4 * brief(&env)).await;
    ensure_eq!(job.job.attempt, 1, "attempt");
    job.end(Ending::Done)?;
    let mut handled = 0;
    for running in crew {
        let report = running.stop().await?;
        ensure_eq!((report.retried, report.lost), (0, 0), "retried and lost");
        handled += report.handled;
    }
    ensure_eq!(handled, 1, "runs of a job of four leases");
    deafness_costs_the_lease(&env, &queue, &name).await
}

/// Tells when it is dropped: what happens to a handler that is cancelled.
struct LastBreath(Arc<Mutex<Option<Instant>>>);

impl Drop for LastBreath {
    fn drop(&mut self) {
        self.0.lock().get_or_insert_with(Instant::now);
    }
}

/// No heartbeat gets through: the handler is cancelled when its lease ends, and somebody else does the job.
async fn deafness_costs_the_lease(env: &Env, queue: &Arc<dyn Queue>, name: &QueueName) -> Outcome {
    let (ended, until) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
    let (breath, lease) = (ended.clone(), until.clone());
    let handler = move |job: Job<Bytes>| {
        lease.lock().replace(job.lease.until());
        let breath = LastBreath(breath.clone());
        async move {
            let _breath = breath;
            std::future::pending().await
        }
    };
    let deaf: Arc<dyn Queue> = Arc::new(Deaf { inner: env.open().await? });
    let first = Running::start(narrow(env, &deaf).on_others(handler), std::slice::from_ref(name));
    publish_all(queue, name, numbered(1)).await?;
    let until = eventually(env, PATIENCE, "the deaf worker's handler", async || Ok(*until.lock())).await?;
    let mut starts = Starts::new();
    let second = Running::start(starts.of(narrow(env, queue)), std::slice::from_ref(name));
    let again = starts.next(env).await?;
    let early = until.saturating_duration_since(Instant::now());
    ensure!(early.is_zero(), "somebody else began {early:?} before the lease was over");
    ensure_eq!(again.job.attempt, 2, "attempt of the second run");
    let ended = eventually(env, PATIENCE, "the end of the first handler", async || Ok(*ended.lock())).await?;
    env.in_time("the end of a handler whose lease is over", until, ended)?;
    again.end(Ending::Done)?;
    let report = second.stop().await?;
    ensure_eq!((report.acked, report.lost), (1, 0), "acked and lost at the second");
    let report = first.stop().await?;
    ensure_eq!((report.acked, report.lost), (0, 1), "acked and lost at the first");
    Ok(())
}

/// Stops a worker that must have ended by `within` + L.
async fn stopped(env: &Env, running: Running, within: Duration) -> Result<polyqueue::Report, Fail> {
    let due = Instant::now() + within;
    let Ok(report) = timeout_at(due + PATIENCE, running.stop()).await else {
        return Err(format!("not stopped {:?} after it was told to", within + PATIENCE).into());
    };
    env.in_time("the end of a worker that was stopped", due, Instant::now())?;
    report
}

/// What is ready now is exactly `n` messages, on attempt 1: nothing was burned. Acks them.
async fn unburned(env: &Env, queue: &Arc<dyn Queue>, name: &QueueName, n: usize) -> Outcome {
    let consumer = queue.subscribe(&steady(env, name)).await?;
    let leased = hold(&*consumer, n).await?;
    let attempts: Vec<u32> = leased.iter().map(|it| it.attempt).collect();
    ensure_eq!(attempts, vec![1; n], "attempts after a stop, which burns none");
    settle_all(&*consumer, &leased, |_| polyqueue::Verdict::Ack, polyqueue::Settled::Applied).await?;
    nothing_else_is_ready(queue, name, &*consumer).await
}

async fn a_stop_ends_in_time(env: Env) -> Outcome {
    let (queue, name) = env.declared("stopped").await?;
    let idle = Running::start(Starts::new().of(narrow(&env, &queue)), std::slice::from_ref(&name));
    sleep(env.t(0.5)).await;
    ensure_eq!(stopped(&env, idle, Duration::ZERO).await?.received, 0, "received by an idle worker");
    let (stop, already) = tokio::sync::oneshot::channel::<()>();
    drop(stop);
    publish_all(&queue, &name, numbered(1)).await?;
    let starts = Starts::new();
    let report = starts.of(narrow(&env, &queue)).run([name.clone()], already).await?;
    ensure_eq!(report.handled, 0, "handled by a worker that was stopped before it started");
    ensure!(starts.none(), "a handler ran although the worker was stopped before");
    unburned(&env, &queue, &name, 1).await?;
    handlers_may_finish(&env, &queue, &name).await?;
    slow_ones_are_given_back(&env, &queue, &name).await
}

/// A running handler finishes in time; what was prefetched for it and what comes later is not started.
async fn handlers_may_finish(env: &Env, queue: &Arc<dyn Queue>, name: &QueueName) -> Outcome {
    let mut starts = Starts::new();
    let running = Running::start(starts.of(narrow(env, queue).prefetch(5)), std::slice::from_ref(name));
    publish_all(queue, name, numbered(5)).await?;
    let job = starts.next(env).await?;
    let stopping = stopped(env, running, env.t(3.0));
    let finishing = async {
        sleep(env.t(0.5)).await;
        publish_all(queue, name, numbered(1)).await?;
        sleep(env.t(0.5)).await;
        job.end(Ending::Done)
    };
    let (report, finished) = tokio::join!(stopping, finishing);
    finished?;
    let report = report?;
    ensure_eq!((report.acked, report.handled), (1, 1), "acked and handled");
    ensure!(starts.none(), "a handler was started after the stop");
    unburned(env, queue, name, 5).await
}

/// A handler that does not end is dropped at the deadline; its message is given back, no attempt burned.
async fn slow_ones_are_given_back(env: &Env, queue: &Arc<dyn Queue>, name: &QueueName) -> Outcome {
    let mut starts = Starts::new();
    let running = Running::start(starts.of(narrow(env, queue)), std::slice::from_ref(name));
    publish_all(queue, name, numbered(1)).await?;
    let _never_ends = starts.next(env).await?;
    let told = Instant::now();
    let report = stopped(env, running, env.t(3.0)).await?;
    ensure!(told.elapsed() >= env.t(3.0), "the handler was given {:?} of its deadline", told.elapsed());
    ensure_eq!((report.acked, report.released), (0, 1), "acked and released");
    unburned(env, queue, name, 1).await
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-LSE-07",
        "heartbeats keep the lease of a long job; without them it is cancelled and done by another",
        ["S-LSE-5", "S-LSE-4", "S-LSE-1"],
        Both,
        [],
        heartbeats_keep_a_long_job
    ),
    case!(
        "C-LIF-03",
        "a stopped worker hands out nothing more, lets handlers finish, gives back the rest by its deadline",
        ["S-LIF-2", "S-ATT-1"],
        Both,
        [],
        a_stop_ends_in_time
    ),
];
