//! What one handler is told otherwise than its worker: attempts, timeout, concurrency.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{
    Backoff, DeadFilter, DeadReason, Death, Error, Failure, HandlerOptions, Job, Message, Page, Payload,
    QueueExt, Refusal, RetryPolicy, Verdict, Worker, with,
};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep};

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
async fn what_finds_no_place_to_wait_is_given_back_until_about_its_turn() {
    let broker = Scripted::default();
    ["runs", "too many", "after it"].iter().for_each(|id| broker.ready(id, slow()));
    let slow = async |_: Job<Slow>| lasts(5).await;
    let one = HandlerOptions::new().concurrency(1);
    let worker = Worker::new(broker.queue()).concurrency(2).on_with(slow, one);
    let report = run_until_settled(&broker, worker, 3).await;
    let back = |id: &str, ms| (id.to_owned(), Verdict::Release { after: Duration::from_millis(ms) });
    let acked = ("runs".to_owned(), Verdict::Ack);
    assert_eq!(broker.verdicts(), [back("too many", 1), back("after it", 2), acked]);
    assert_eq!((report.acked, report.released), (1, 2));
}

/// Handles `messages` of one kind one at a time, and answers how long that took and how many were given back.
async fn one_at_a_time(name: &str, slots: usize, messages: u32, each: Duration) -> (Duration, u64) {
    let queue = memory(name).await;
    for _ in 0..messages {
        queue.send(Q, &Slow).await.unwrap();
    }
    let slow = with(each, async |each, _: Job<Slow>| {
        sleep(each).await;
        Ok(())
    });
    let worker =
        Worker::new(queue.clone()).concurrency(slots).on_with(slow, HandlerOptions::new().concurrency(1));
    let began = Instant::now();
    let report = run_until_empty(&queue, worker).await;
    assert_eq!(report.acked, u64::from(messages));
    (began.elapsed(), report.released)
}

#[tokio::test(start_paused = true)]
async fn a_handler_of_its_own_concurrency_is_hardly_ever_idle() {
    for (slots, messages, ms) in [(16, 60, 10), (2, 60, 10), (3, 60, 1), (16, 300, 500), (2, 40, 2000)] {
        let each = Duration::from_millis(ms);
        let (took, given_back) = one_at_a_time(&format!("busy{slots}-{ms}"), slots, messages, each).await;
        let least = each * messages;
        assert!(took < least * 2, "{slots} slots, {messages} of {each:?}: {took:?}");
        assert!(given_back < 6 * u64::from(messages), "{slots}, {each:?}: {given_back} of {messages}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_kind_neither_floods_the_broker_nor_delays_another_kind() {
    let queue = memory("options-flood").await;
    for _ in 0..2000 {
        queue.send(Q, &Slow).await.unwrap();
    }
    let slow = async |_: Job<Slow>| {
        sleep(SECOND / 2).await;
        Ok(())
    };
    let pinged = Arc::new(Mutex::new(None));
    let ping = with(pinged.clone(), async |pinged, _: Job<Ping>| {
        *pinged.lock() = Some(Instant::now());
        Ok(())
    });
    let worker = Worker::new(queue.clone()).on_with(slow, HandlerOptions::new().concurrency(1)).on(ping);
    let running = tokio::spawn(worker.run([Q], sleep(20 * SECOND)));
    sleep(4 * SECOND).await;
    let sent = Instant::now();
    queue.send(Q, &Ping(1)).await.unwrap();
    let report = running.await.unwrap().unwrap();
    assert!((38..=42).contains(&report.handled), "one every half second, and the ping: {report:?}");
    assert!(report.released < 3 * 2000, "{report:?}");
    assert!(pinged.lock().unwrap() - sent < SECOND, "{:?}", pinged.lock().unwrap() - sent);
}

#[tokio::test]
async fn more_than_the_worker_could_ever_run_is_refused() {
    let broker = Scripted::default();
    let worker = |own| {
        let own = HandlerOptions::new().concurrency(own);
        Worker::new(broker.queue()).concurrency(2).on_with(async |_: Job<Slow>| lasts(0).await, own)
    };
    let two = || [Q, "other".parse().unwrap()];
    let error = worker(5).run(two(), async {}).await.unwrap_err();
    let says = "invalid concurrency of a handler: 5 given, allowed are 1 to 4";
    assert!(error.to_string().starts_with(says), "{error}");
    worker(4).run(two(), async {}).await.unwrap();
    assert!(matches!(worker(3).run([Q], async {}).await, Err(Error::Invalid { .. })));
}
