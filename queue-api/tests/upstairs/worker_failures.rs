//! How handlers fail, and what the worker makes of it.

use std::time::Duration;

use polyqueue::{Backoff, Error, Failure, Job, Refusal, Result, RetryPolicy, Verdict, Worker};

use crate::scripted::{Ping, Q, Scripted, away, ping};
use crate::worker_handlers::run_until_settled;

const SECOND: Duration = Duration::from_secs(1);

async fn verdict_of(attempt: u32, worker: impl FnOnce(Worker) -> Worker) -> Verdict {
    let broker = Scripted::default();
    broker.ready_again("a", attempt, ping(1));
    run_until_settled(&broker, worker(Worker::new(broker.queue())), 1).await;
    broker.verdicts().remove(0).1
}

#[tokio::test(start_paused = true)]
async fn an_error_is_retried_by_the_policy() {
    async fn fails(_: Job<Ping>) -> Result<(), Failure> {
        Err(std::io::Error::other("mail server down"))?
    }
    for (attempt, wait) in [(1, 1), (2, 2), (3, 4), (9, 30)] {
        let verdict = verdict_of(attempt, |worker| worker.on(fails)).await;
        assert_eq!(verdict, Verdict::retry(SECOND * wait, "mail server down"));
    }
    let verdict = verdict_of(1, |worker| worker.on(fails).retry(RetryPolicy::immediate_first())).await;
    assert_eq!(verdict, Verdict::retry(Duration::ZERO, "mail server down"));
}

#[tokio::test(start_paused = true)]
async fn jitter_spreads_the_waits() {
    let backoff = Backoff::new(4 * SECOND, 1.0, 4 * SECOND).unwrap().jitter(0.5).unwrap();
    let mut waits = Vec::new();
    for _ in 0..20 {
        let policy = RetryPolicy::new(4, backoff.clone()).unwrap();
        let worker = |worker: Worker| worker.on(async |_: Job<Ping>| Err("x")?).retry(policy);
        let Verdict::Retry { after, .. } = verdict_of(1, worker).await else { panic!() };
        assert!((2 * SECOND..=4 * SECOND).contains(&after), "{after:?}");
        waits.push(after);
    }
    waits.dedup();
    assert!(waits.len() > 15, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handler_says_what_else_should_happen() {
    let after =
        verdict_of(1, |w| w.on(async |_: Job<Ping>| Err(Failure::retry_after(9 * SECOND, "busy")))).await;
    assert_eq!(after, Verdict::retry(9 * SECOND, "busy"));
    let fatal = verdict_of(1, |w| w.on(async |_: Job<Ping>| Err(Failure::fatal("no such user")))).await;
    assert_eq!(fatal, Verdict::DeadLetter { reason: Refusal::Rejected, error: "no such user".into() });
    let snooze = verdict_of(1, |w| w.on(async |_: Job<Ping>| Err(Failure::Snooze(9 * SECOND)))).await;
    assert_eq!(snooze, Verdict::Release { after: 9 * SECOND });
}

#[tokio::test(start_paused = true)]
async fn a_panic_counts_whatever_it_throws() {
    #[expect(unreachable_code, reason = "a handler that can only panic")]
    async fn number(_: Job<Ping>) -> Result<(), Failure> {
        std::panic::panic_any(7);
        Ok(())
    }
    let text = verdict_of(1, |w| w.on(async |job: Job<Ping>| panic!("no {}", job.payload.0))).await;
    assert_eq!(text, Verdict::retry(SECOND, "the handler panicked: no 1"));
    let literal = verdict_of(2, |w| w.on(async |_: Job<Ping>| panic!("no"))).await;
    assert_eq!(literal, Verdict::retry(2 * SECOND, "the handler panicked: no"));
    let number = verdict_of(1, |w| w.on(number)).await;
    assert_eq!(number, Verdict::retry(SECOND, "the handler panicked: (a payload that is no text)"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_harms_nobody_else() {
    let broker = Scripted::default();
    for n in 0..40 {
        broker.ready(&n.to_string(), ping(n));
    }
    let worker = Worker::new(broker.queue()).concurrency(2).on(async |job: Job<Ping>| {
        assert!(job.payload.0.is_multiple_of(2), "odd");
        Ok(())
    });
    let report = run_until_settled(&broker, worker, 40).await;
    assert_eq!((report.acked, report.retried), (20, 20));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_too_long_is_dropped_and_counts() {
    let slow = async |_: Job<Ping>| std::future::pending().await;
    let verdict = verdict_of(1, |w| w.on(slow).timeout(5 * SECOND)).await;
    assert_eq!(verdict, Verdict::retry(SECOND, "the handler timed out after 5s"));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_is_waited_for() {
    let broker = Scripted::default();
    broker.subscribe_fails([away(), away()]);
    broker.receive_fails([away(), away(), away()]);
    broker.ready("a", ping(1));
    let worker = Worker::new(broker.queue()).on(async |_: Job<Ping>| Ok(()));
    let start = tokio::time::Instant::now();
    assert_eq!(run_until_settled(&broker, worker, 1).await.acked, 1);
    assert!(start.elapsed() >= Duration::from_millis(500), "it did not back off: {:?}", start.elapsed());
    assert!(start.elapsed() <= 5 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_answers_nothing_at_once_is_not_asked_without_end() {
    let broker = Scripted::default();
    broker.at_once();
    let worker = Worker::new(broker.queue()).on(async |_: Job<Ping>| Ok(()));
    worker.run([Q], tokio::time::sleep(SECOND)).await.unwrap();
    assert!(broker.calls().len() < 30, "{}", broker.calls().len());
}

#[tokio::test(start_paused = true)]
async fn stopped_while_it_waits_for_the_broker_it_says_why_it_never_began() {
    let broker = Scripted::default();
    broker.subscribe_fails(vec![away(); 1000]);
    let worker = Worker::new(broker.queue()).on(async |_: Job<Ping>| Ok(()));
    let start = tokio::time::Instant::now();
    let error = worker.run([Q], tokio::time::sleep(7 * SECOND)).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(start.elapsed() < 8 * SECOND, "{:?}", start.elapsed());
}
