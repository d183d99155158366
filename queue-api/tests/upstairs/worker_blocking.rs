//! Handlers that block their thread: what is said of them, and how they harm nobody.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{
    DeadReason, Death, Extended, Failure, HandlerOptions, Job, Settled, Verdict, Worker, blocking,
};
use tokio::sync::oneshot;

use crate::logged::Log;
use crate::scripted::{Answer, Ping, Q, Scripted, ping};
use crate::worker_handlers::run_until_settled;

const LEASE: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "current_thread")]
async fn a_blocking_handler_loses_no_lease_on_one_thread() {
    let broker = Scripted::default();
    ["a", "b"].iter().for_each(|id| broker.ready(id, ping(1)));
    let worker = Worker::new(broker.queue()).lease(LEASE).on_blocking(|job: Job<Ping>| {
        std::thread::sleep(3 * LEASE);
        assert!(!job.lease.is_over());
        Ok(())
    });
    let report = run_until_settled(&broker, worker, 2).await;
    assert_eq!((report.acked, report.lost), (2, 0));
    let extends = broker.times(|call| matches!(call, crate::scripted::Call::Extend(_)).then_some(()));
    assert!(extends.len() >= 4, "{}", extends.len());
}

#[tokio::test(flavor = "current_thread")]
async fn its_results_are_those_of_a_handler() {
    let broker = Scripted::default();
    (0..4).for_each(|n| broker.ready(&n.to_string(), ping(n)));
    let worker = Worker::new(broker.queue()).on_with(
        blocking(|job: Job<Ping>| match job.payload.0 {
            0 => Ok(()),
            1 => Err("boom")?,
            2 => panic!("no {}", job.payload.0),
            _ => Err(Failure::fatal("never")),
        }),
        HandlerOptions::new(),
    );
    run_until_settled(&broker, worker, 4).await;
    let mut verdicts = broker.verdicts();
    verdicts.sort_by(|(one, _), (other, _)| one.cmp(other));
    let second = Duration::from_secs(1);
    let expected = [
        Verdict::Ack,
        Verdict::retry(second, "boom"),
        Verdict::retry(second, "the handler panicked: no 2"),
        Verdict::reject("never"),
    ];
    assert!(verdicts.into_iter().map(|(_, verdict)| verdict).eq(expected));
}

#[tokio::test(flavor = "current_thread")]
async fn who_blocks_the_only_thread_is_named() {
    let (broker, log) = (Scripted::default(), Log::default());
    let _listening = log.listen();
    broker.ready("a", ping(1));
    broker.settles_as("a", Settled::LeaseLost);
    let worker = Worker::new(broker.queue()).lease(LEASE).on(async |_: Job<Ping>| {
        tokio::task::yield_now().await;
        std::thread::sleep(2 * LEASE);
        Ok(())
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker.run([Q], stopped));
    broker.until_settled(1).await;
    tokio::time::sleep(2 * LEASE).await;
    drop(stop);
    assert_eq!(running.await.unwrap().unwrap().lost, 1);
    assert_eq!(log.lines_with("kinds={\"ping\"}"), 1, "{}", log.text());
    assert_eq!(log.lines_with("kind=\"ping\""), 1, "{}", log.text());
}

/// The deaths that are told of when the lease of the `attempt`-th hand-out is lost.
async fn deaths_by_loss(attempt: u32, by_heartbeat: bool) -> Vec<Death> {
    let (broker, deaths) = (Scripted::default(), Arc::new(Mutex::new(Vec::new())));
    let told = deaths.clone();
    broker.ready_again("a", attempt, ping(1));
    broker.settles_as("a", Settled::LeaseLost);
    if by_heartbeat {
        broker.extend_answers(Some(Answer::Each(Extended::LeaseLost)));
    }
    let worker = Worker::new(broker.queue()).on_dead_letter(move |death| {
        let told = told.clone();
        async move { told.lock().push(death) }
    });
    let worker = worker.on(move |_: Job<Ping>| async move {
        if by_heartbeat { std::future::pending().await } else { Ok(()) }
    });
    let report = worker.run([Q], tokio::time::sleep(Duration::from_secs(60))).await.unwrap();
    assert_eq!((report.lost, report.died), (1, 0));
    let deaths = deaths.lock();
    deaths.clone()
}

#[tokio::test(start_paused = true)]
async fn a_lease_lost_at_the_last_attempt_is_told_of() {
    for by_heartbeat in [false, true] {
        assert!(deaths_by_loss(3, by_heartbeat).await.is_empty());
        let deaths = deaths_by_loss(4, by_heartbeat).await;
        let [death] = &deaths[..] else { panic!("{deaths:?}") };
        assert!(death.lease_lost);
        assert_eq!((death.reason, death.attempts), (DeadReason::MaxAttempts, 4));
        assert!(death.error.contains("lease was lost"), "{}", death.error);
    }
}
