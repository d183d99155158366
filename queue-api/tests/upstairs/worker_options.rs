//! What one handler is told otherwise than its worker: attempts, timeout, concurrency.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{
    Backoff, DeadFilter, DeadReason, Death, Failure, HandlerOptions, Job, Message, Page, Payload, QueueExt,
    Refusal, RetryPolicy, Verdict, Worker, with,
};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::sleep;

use crate::ext::memory;
use crate::scripted::{Ping, Q, Scripted, ping};
use crate::worker_handlers::run_until_settled;
use crate::worker_memory::{run_until_empty, until};

const SECOND: Duration = Duration::from_secs(1);
const GIVEN_BACK: Verdict = Verdict::Release { after: Duration::ZERO };

/// Of the slow kind.
#[derive(serde::Serialize, serde::Deserialize)]
struct Slow;

impl Payload for Slow {
    const KIND: &'static str = "slow";
}

fn slow() -> Message {
    Message::of(&Slow).unwrap()
}

async fn lasts(seconds: u32) -> Result<(), Failure> {
    sleep(SECOND * seconds).await;
    Ok(())
}

fn times(attempts: u32) -> RetryPolicy {
    RetryPolicy::new(attempts, Backoff::default()).unwrap()
}

async fn fails<T: Send>(_: Job<T>) -> Result<(), Failure> {
    Err("boom")?
}

#[tokio::test(start_paused = true)]
async fn each_handler_has_attempts_of_its_own() {
    let queue = memory("options-attempts").await;
    queue.send(Q, &Ping(1)).await.unwrap();
    queue.send(Q, &Slow).await.unwrap();
    let own = slow().with_kind("other").with_max_attempts(NonZeroU32::new(5).unwrap());
    queue.publish_one(Q, own).await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let deaths = move |death: Death| {
        let told = told.clone();
        async move { told.lock().push((death.message.kind().to_owned(), death.reason, death.attempts)) }
    };
    let worker = Worker::new(queue.clone())
        .retry(times(3))
        .on(fails::<Ping>)
        .on_with(fails::<Slow>, HandlerOptions::new().retry(times(6)))
        .on_others_with(fails, HandlerOptions::new().retry(times(2)))
        .on_dead_letter(deaths);
    assert_eq!(run_until_empty(&queue, worker).await.died, 3);
    let died = |kind: &str, attempts| (kind.to_owned(), DeadReason::MaxAttempts, attempts);
    let mut seen = seen.lock().clone();
    seen.sort_by_key(|(_, _, attempts)| *attempts);
    assert_eq!(seen, [died("ping", 3), died("other", 5), died("slow", 6)]);
    let page = queue.dead_letters(&Q, &DeadFilter::all(), Page::first(9)).await.unwrap();
    assert!(
        page.dead_letters
            .iter()
            .all(|letter| letter.reason == DeadReason::MaxAttempts && letter.error == "boom")
    );
}

#[tokio::test(start_paused = true)]
async fn a_job_knows_which_attempt_is_its_last() {
    let broker = Scripted::default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    broker.ready("ping", ping(1));
    broker.ready("own", ping(1).with_max_attempts(NonZeroU32::new(9).unwrap()));
    broker.ready("slow", slow());
    broker.ready("other", slow().with_kind("other"));
    fn note<T: Send>(seen: &Mutex<Vec<u32>>, job: &Job<T>) -> Result<(), Failure> {
        seen.lock().push(job.max_attempts);
        Ok(())
    }
    let pings = with(seen.clone(), async |seen, job: Job<Ping>| note(&seen, &job));
    let slow = with(seen.clone(), async |seen, job: Job<Slow>| note(&seen, &job));
    let others = with(seen.clone(), async |seen, job: Job<_>| note(&seen, &job));
    let worker = Worker::new(broker.queue())
        .retry(times(7))
        .on(pings)
        .on_with(slow, HandlerOptions::new().retry(times(2)))
        .on_others_with(others, HandlerOptions::new());
    run_until_settled(&broker, worker, 4).await;
    seen.lock().sort();
    assert_eq!(*seen.lock(), [2, 7, 7, 9]);
    assert_eq!(broker.subscriptions()[0].max_attempts.get(), 7, "the broker is told the most");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ended_at_the_handlers_last_attempt_is_a_death() {
    let broker = Scripted::default();
    broker.ready_again("a", 3, slow());
    let worker = Worker::new(broker.queue()).on_with(fails::<Slow>, HandlerOptions::new().retry(times(2)));
    let report = run_until_settled(&broker, worker, 1).await;
    assert_eq!((report.handled, report.died), (0, 1));
    let error = "the lease ended at attempt 2, the last".into();
    let dead = Verdict::DeadLetter { reason: Refusal::MaxAttempts, error };
    assert_eq!(broker.verdicts(), [("a".to_owned(), dead)]);
}

#[tokio::test(start_paused = true)]
async fn each_handler_has_a_timeout_of_its_own() {
    let broker = Scripted::default();
    broker.ready("ping", ping(1));
    broker.ready("slow", slow());
    let hangs = || async |_: Job<Slow>| std::future::pending().await;
    let worker = Worker::new(broker.queue())
        .timeout(5 * SECOND)
        .on(async |_: Job<Ping>| lasts(4).await)
        .on_with(hangs(), HandlerOptions::new().timeout(2 * SECOND));
    run_until_settled(&broker, worker, 2).await;
    let timed_out = Verdict::retry(SECOND, "the handler timed out after 2s");
    assert_eq!(broker.verdicts(), [("slow".to_owned(), timed_out), ("ping".to_owned(), Verdict::Ack)]);
}

/// How many run, and the most that did.
#[derive(Clone, Default)]
struct Crowd(Arc<Mutex<(usize, usize)>>);

impl Crowd {
    async fn join(&self, length: Duration) {
        {
            let mut crowd = self.0.lock();
            crowd.0 += 1;
            crowd.1 = crowd.1.max(crowd.0);
        }
        sleep(length).await;
        self.0.lock().0 -= 1;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_kind_keeps_nobody_else_waiting() {
    let queue = memory("options-crowd").await;
    let crowd = Crowd::default();
    for _ in 0..200 {
        queue.send(Q, &Slow).await.unwrap();
    }
    for n in 0..200 {
        queue.send(Q, &Ping(n)).await.unwrap();
    }
    let (gate, pings) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(0)));
    let slow = with((crowd.clone(), gate.clone()), async |(crowd, gate), job: Job<Slow>| {
        assert_eq!(job.attempt, 1);
        let _open = gate.acquire().await?;
        crowd.join(SECOND / 10).await;
        Ok(())
    });
    let worker = Worker::new(queue.clone())
        .concurrency(8)
        .lease(2 * SECOND)
        .timeout(30 * SECOND)
        .on_with(slow, HandlerOptions::new().concurrency(2).timeout(Duration::MAX))
        .on(with(pings.clone(), async |pings, _: Job<Ping>| {
            *pings.lock() += 1;
            Ok(())
        }));
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker.run([Q], stopped));
    until("all pings, though no slow one has ended", async || *pings.lock() == 200).await;
    sleep(60 * SECOND).await;
    gate.add_permits(100);
    until("all slow ones", async || queue.stats(&Q).await.unwrap().counters.acked == 400).await;
    drop(stop);
    let report = running.await.unwrap().unwrap();
    assert_eq!((report.acked, report.lost, report.died), (400, 0, 0));
    assert_eq!(report.handled, 400);
    assert_eq!(crowd.0.lock().1, 2);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_turn_is_given_back_at_the_stop() {
    let broker = Scripted::default();
    ["runs", "waits"].iter().for_each(|id| broker.ready(id, slow()));
    let slow = async |_: Job<Slow>| lasts(5).await;
    let worker = Worker::new(broker.queue()).on_with(slow, HandlerOptions::new().concurrency(1));
    let report = worker.run([Q], sleep(SECOND)).await.unwrap();
    assert_eq!(broker.verdicts(), [("waits".to_owned(), GIVEN_BACK), ("runs".to_owned(), Verdict::Ack)]);
    assert_eq!((report.handled, report.acked, report.released), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_place_to_wait_is_given_back_for_a_second() {
    let broker = Scripted::default();
    ["runs", "too many"].iter().for_each(|id| broker.ready(id, slow()));
    let slow = async |_: Job<Slow>| lasts(5).await;
    let one = HandlerOptions::new().concurrency(1);
    let worker = Worker::new(broker.queue()).concurrency(3).on_with(slow, one);
    let report = run_until_settled(&broker, worker, 2).await;
    let back = ("too many".to_owned(), Verdict::Release { after: SECOND });
    assert_eq!(broker.verdicts(), [back, ("runs".to_owned(), Verdict::Ack)]);
    assert_eq!((report.acked, report.released), (1, 1));
}
