//! The worker on the memory broker: attempts, deaths, priority and leases from end to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{
    DeadFilter, DeadReason, Failure, Job, Message, Page, Priority, Queue, QueueExt, RedriveOptions, Report,
    Worker, with,
};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep};

use crate::ext::memory;
use crate::scripted::{Ping, Q, ping};

const SECOND: Duration = Duration::from_secs(1);

pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..100_000 {
        if so().await {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

async fn empty(queue: &Arc<dyn Queue>) -> bool {
    let stats = queue.stats(&Q).await.unwrap();
    stats.ready == 0 && stats.delayed == Some(0) && stats.in_flight == Some(0)
}

pub(crate) async fn run_until_empty(queue: &Arc<dyn Queue>, worker: Worker) -> Report {
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker.run([Q], stopped));
    until("empty", async || empty(queue).await).await;
    drop(stop);
    running.await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_keeps_failing_is_tried_four_times_and_dies_readable() {
    let queue = memory("attempts").await;
    queue.send(Q, &Ping(1)).await.unwrap();
    let start = Instant::now();
    let (runs, told) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let (kept, reader) = (told.clone(), queue.clone());
    let worker = Worker::new(queue.clone())
        .on(with((runs.clone(), start), async |(runs, start), job: Job<Ping>| {
            runs.lock().push((job.attempt, start.elapsed().as_secs()));
            Err(Failure::from(format!("failure {}", job.attempt)))
        }))
        .on_dead_letter(move |death: polyqueue::Death| {
            let (told, queue) = (kept.clone(), reader.clone());
            async move {
                let page = queue.dead_letters(&Q, &DeadFilter::all(), Page::first(9)).await.unwrap();
                told.lock().push((death.reason, death.error, death.attempts, page.dead_letters.len()));
            }
        });
    let report = run_until_empty(&queue, worker).await;
    assert_eq!(*runs.lock(), [(1, 0), (2, 1), (3, 3), (4, 7)]);
    assert_eq!(*told.lock(), [(DeadReason::MaxAttempts, "failure 4".to_owned(), 4, 1)]);
    assert_eq!((report.received, report.retried, report.died), (4, 3, 1));

    queue.redrive_where(&Q, &DeadFilter::all(), RedriveOptions::default()).await.unwrap();
    let report = run_until_empty(&queue, Worker::new(queue.clone()).on(async |_: Job<Ping>| Ok(()))).await;
    assert_eq!(report.acked, 1);
}

/// C-ATT-01: what counts as an attempt, and what does not.
#[tokio::test(start_paused = true)]
async fn every_failure_counts_and_a_snooze_does_not() {
    let queue = memory("counting").await;
    let max = std::num::NonZeroU32::new(9).unwrap();
    queue.publish_one(Q, ping(1).with_max_attempts(max)).await.unwrap();
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let worker = Worker::new(queue.clone()).timeout(5 * SECOND).on(with(
        attempts.clone(),
        async |attempts, job: Job<Ping>| {
            let run = {
                let mut attempts = attempts.lock();
                attempts.push(job.attempt);
                attempts.len()
            };
            match run {
                1 => Err(Failure::from("boom")),
                2 => Err(Failure::Snooze(SECOND)),
                3 => panic!("boom"),
                4 => std::future::pending().await,
                _ => Ok(()),
            }
        },
    ));
    let report = run_until_empty(&queue, worker).await;
    assert_eq!(*attempts.lock(), [1, 2, 2, 3, 4]);
    assert_eq!((report.retried, report.released, report.acked), (3, 1, 1));
}

/// C-PRI-05: what became ready while every handler was busy comes before what is less urgent.
#[tokio::test(start_paused = true)]
async fn priority_is_strict_behind_busy_handlers() {
    let queue = memory("strict").await;
    let low: Vec<Message> = (0..200).map(|_| ping(1).with_priority(Priority::LOWEST)).collect();
    queue.publish(&Q.into(), low).await.unwrap();
    let (gate, order) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
    let worker = Worker::new(queue.clone()).concurrency(4).on(with(
        (gate.clone(), order.clone()),
        async |(gate, order), job: Job<Ping>| {
            order.lock().push(job.message.priority().get());
            gate.acquire().await?.forget();
            Ok(())
        },
    ));
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker.run([Q], stopped));
    until("four run", async || order.lock().len() == 4).await;
    let high: Vec<Message> = (0..4).map(|_| ping(1).with_priority(Priority::HIGHEST)).collect();
    queue.publish(&Q.into(), high).await.unwrap();
    gate.add_permits(4);
    until("eight ran", async || order.lock().len() == 8).await;
    assert_eq!(order.lock()[4..], [10; 4]);
    gate.add_permits(1000);
    until("empty", async || empty(&queue).await).await;
    drop(stop);
    assert_eq!(running.await.unwrap().unwrap().acked, 204);
}

/// C-LSE-07: a job longer than its lease runs once.
#[tokio::test(start_paused = true)]
async fn a_long_job_runs_once() {
    let queue = memory("long").await;
    queue.send(Q, &Ping(1)).await.unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let long = with(runs.clone(), async |runs, _: Job<Ping>| {
        runs.fetch_add(1, SeqCst);
        sleep(20 * SECOND).await;
        Ok(())
    });
    let worker = || Worker::new(queue.clone()).lease(5 * SECOND);
    let (stop, stopped) = oneshot::channel::<()>();
    let other = tokio::spawn(worker().on(async |_: Job<Ping>| Ok(())).run([Q], stopped));
    sleep(SECOND).await;
    let report = run_until_empty(&queue, worker().on(long)).await;
    drop(stop);
    let other = other.await.unwrap().unwrap();
    assert_eq!((report.acked + other.acked, report.received + other.received), (1, 1));
}

/// C-LIF-03 (c): given back at the deadline, its attempt is not counted.
#[tokio::test(start_paused = true)]
async fn a_stop_counts_no_attempt() {
    let queue = memory("stop").await;
    queue.send(Q, &Ping(1)).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = Worker::new(queue.clone())
        .stop_deadline(SECOND)
        .on(async |_: Job<Ping>| std::future::pending().await);
    let running = tokio::spawn(worker.run([Q], stopped));
    until("it runs", async || queue.stats(&Q).await.unwrap().in_flight == Some(1)).await;
    drop(stop);
    assert_eq!(running.await.unwrap().unwrap().released, 1);
    let attempts = Arc::new(AtomicU32::new(0));
    let worker = Worker::new(queue.clone()).on(with(attempts.clone(), async |attempts, job: Job<Ping>| {
        attempts.store(job.attempt, SeqCst);
        Ok(())
    }));
    run_until_empty(&queue, worker).await;
    assert_eq!(attempts.load(SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_between_two_workers_that_come_and_go() {
    let queue = memory("many").await;
    let batch = (0..2000).map(ping).collect();
    queue.publish(&Q.into(), batch).await.unwrap();
    let seen = Arc::new(Mutex::new(vec![0; 2000]));
    let worker = || {
        Worker::new(queue.clone()).on(with(seen.clone(), async |seen, job: Job<Ping>| {
            tokio::task::yield_now().await;
            seen.lock()[job.payload.0 as usize] += 1;
            Ok(())
        }))
    };
    for _ in 0..3 {
        let stop = || sleep(Duration::from_millis(2));
        let (a, b) = tokio::join!(worker().run([Q], stop()), worker().run([Q], stop()));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!((a.received, b.received), (a.acked + a.released, b.acked + b.released));
    }
    run_until_empty(&queue, worker()).await;
    assert_eq!(*seen.lock(), vec![1; 2000]);
}
