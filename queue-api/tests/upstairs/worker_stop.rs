//! How a worker ends: on request, by an error, and by being dropped.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use polyqueue::{Certainty, Error, Job, Report, Verdict, Worker};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::scripted::{Answer, Call, Ping, Q, Scripted, ping};

const SECOND: Duration = Duration::from_secs(1);
const GIVEN_BACK: Verdict = Verdict::Release { after: Duration::ZERO };

/// A worker whose handlers take as many seconds as their payload says.
fn sleeper(broker: &Scripted) -> Worker {
    Worker::new(broker.queue()).on(async |job: Job<Ping>| {
        sleep(SECOND * job.payload.0).await;
        Ok(())
    })
}

/// Lets it run for a second, stops it, and answers how long the stop took.
async fn stop_after_a_second(worker: Worker) -> (Report, Duration) {
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker.run([Q], stopped));
    sleep(SECOND).await;
    let start = Instant::now();
    drop(stop);
    (running.await.unwrap().unwrap(), start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_stops_at_once_and_drops_no_receive() {
    let broker = Scripted::default();
    let (report, took) = stop_after_a_second(sleeper(&broker)).await;
    assert_eq!(report, Report::default());
    assert!(took < SECOND, "{took:?}");
    assert_eq!(broker.0.dropped_receives.load(SeqCst), 0);
    assert_eq!(broker.calls().last(), Some(&Call::Close(Q)));
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_the_stop_is_given_back() {
    let broker = Scripted::default();
    broker.at_close("late", ping(1));
    let (report, _) = stop_after_a_second(sleeper(&broker)).await;
    assert_eq!(broker.verdicts(), [("late".to_owned(), GIVEN_BACK)]);
    assert_eq!((report.received, report.handled, report.released), (1, 0, 1));
    assert_eq!(broker.0.dropped_receives.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_running_handler_may_finish() {
    let broker = Scripted::default();
    broker.ready("a", ping(20));
    let (report, took) = stop_after_a_second(sleeper(&broker)).await;
    assert_eq!((report.acked, report.released), (1, 0));
    assert!((18 * SECOND..20 * SECOND).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handler_too_slow_is_dropped_at_the_deadline_and_its_message_given_back() {
    let broker = Scripted::default();
    let held = Arc::new(());
    let kept = held.clone();
    let worker = Worker::new(broker.queue()).stop_deadline(5 * SECOND).on(polyqueue::with(
        kept,
        async |kept, _: Job<Ping>| {
            sleep(100 * SECOND).await;
            drop(kept);
            Ok(())
        },
    ));
    broker.ready("a", ping(1));
    let (report, took) = stop_after_a_second(worker).await;
    assert_eq!(broker.verdicts(), [("a".to_owned(), GIVEN_BACK)]);
    assert_eq!((report.handled, report.released), (1, 1));
    assert!((5 * SECOND..6 * SECOND).contains(&took), "{took:?}");
    assert_eq!(Arc::strong_count(&held), 1, "its future is gone, and the worker");
}

#[tokio::test(start_paused = true)]
async fn stopped_before_the_start_it_starts_nothing() {
    let broker = Scripted::default();
    broker.ready("a", ping(1));
    let report = sleeper(&broker).run([Q], async {}).await.unwrap();
    assert_eq!(report, Report::default());
    assert_eq!(broker.calls(), [Call::Close(Q)]);
}

#[tokio::test(start_paused = true)]
async fn no_handler_starts_after_the_stop() {
    let broker = Scripted::default();
    broker.ready("a", ping(5));
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(sleeper(&broker).run([Q], stopped));
    sleep(SECOND).await;
    drop(stop);
    sleep(SECOND).await;
    broker.ready("b", ping(0));
    assert_eq!(running.await.unwrap().unwrap().received, 1);
}

#[tokio::test(start_paused = true)]
async fn it_ends_though_the_broker_never_answers() {
    let broker = Scripted::default();
    broker.settle_answers([Answer::Never]);
    broker.ready("a", ping(0));
    let (report, took) = stop_after_a_second(sleeper(&broker).stop_deadline(5 * SECOND)).await;
    assert_eq!((report.received, report.unsettled), (1, 1));
    assert!(took <= 8 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_that_stays_ends_it_in_order() {
    let broker = Scripted::default();
    broker.ready("a", ping(5));
    let running = tokio::spawn(sleeper(&broker).run([Q], std::future::pending::<()>()));
    sleep(SECOND).await;
    broker.receive_fails([Error::backend("scripted", Certainty::Unknown, "WRONGTYPE")]);
    let error = running.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Backend { .. }), "{error}");
    assert_eq!(broker.verdicts(), [("a".to_owned(), Verdict::Ack)], "what ran has finished");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_one_queue_stops_the_others() {
    let broker = Scripted::default();
    let other = polyqueue::QueueName::from_static("other");
    let running = tokio::spawn(sleeper(&broker).run([Q, other.clone()], std::future::pending::<()>()));
    sleep(SECOND).await;
    broker.receive_fails([Error::Closed]);
    assert!(matches!(running.await.unwrap(), Err(Error::Closed)));
    let closed: Vec<_> = broker.calls().into_iter().filter(|call| matches!(call, Call::Close(_))).collect();
    assert_eq!(closed.len(), 2, "{closed:?}");
}

#[tokio::test(start_paused = true)]
async fn dropped_it_leaves_no_task_behind() {
    let broker = Scripted::default();
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    (0..5).for_each(|n| broker.ready(&n.to_string(), ping(1000)));
    let mut run = Box::pin(sleeper(&broker).run([Q], std::future::pending::<()>()));
    let started = timeout(SECOND, &mut run).await;
    assert!(started.is_err());
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(tasks() > before);
    drop(run);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(tasks(), before);
    assert_eq!(broker.verdicts(), [], "their leases bring them back");
}

#[test]
fn a_handler_that_blocks_its_thread_cannot_hold_up_the_stop() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (free, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(parking_lot::Mutex::new(blocked));
    let broker = Scripted::default();
    runtime.block_on(async {
        let worker = Worker::new(broker.queue()).stop_deadline(Duration::ZERO).on(polyqueue::with(
            blocked,
            async |blocked, _: Job<Ping>| {
                let _ = blocked.lock().recv();
                Ok(())
            },
        ));
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(worker.run([Q], stopped));
        broker.ready("a", ping(1));
        broker.until("it runs", |broker| broker.calls().len() >= 2).await;
        drop(stop);
        let report = timeout(30 * SECOND, running).await.unwrap().unwrap().unwrap();
        assert_eq!((report.released, broker.verdicts()), (1, vec![("a".to_owned(), GIVEN_BACK)]));
    });
    drop(free);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_backend_is_passed_on() {
    let broker = Scripted::default();
    broker.settle_answers([Answer::Panic]);
    broker.ready("a", ping(0));
    let running = tokio::spawn(sleeper(&broker).run([Q], std::future::pending::<()>()));
    assert!(running.await.unwrap_err().is_panic(), "a worker without a settler must not go on");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_given_back_is_over() {
    let broker = Scripted::default();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let worker = Worker::new(broker.queue()).stop_deadline(SECOND).on(polyqueue::with(
        tell,
        async |tell, job: Job<Ping>| {
            tokio::spawn(async move {
                job.lease.lost().await;
                tell.send(Instant::now()).unwrap();
            });
            std::future::pending().await
        },
    ));
    broker.ready("a", ping(1));
    stop_after_a_second(worker).await;
    let (now, lost) = (Instant::now(), told.recv().await.unwrap());
    assert!(lost <= now, "{:?} after the worker's end", lost - now);
}
