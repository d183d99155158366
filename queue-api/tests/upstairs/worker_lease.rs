//! Heartbeats, and what becomes of a job whose lease is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{Bytes, Extended, Job, Lease, QueueName, Verdict, Worker, with};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::scripted::{Answer, Call, LEASE, Ping, Q, Scripted, away, ping};
use crate::worker_handlers::run_until_settled;

/// Says when it is dropped.
struct Tell(Arc<Mutex<Option<Instant>>>);

impl Drop for Tell {
    fn drop(&mut self) {
        *self.0.lock() = Some(Instant::now());
    }
}

fn extends(broker: &Scripted) -> Vec<(Instant, Vec<String>)> {
    broker.times(|call| match call {
        Call::Extend(receipts) => Some(receipts.clone()),
        _ => None,
    })
}

#[tokio::test(start_paused = true)]
async fn one_call_a_third_of_a_lease_extends_all_that_run() {
    let broker = Scripted::default();
    ["a", "b", "c"].iter().for_each(|id| broker.ready(id, ping(1)));
    let start = Instant::now();
    let worker = Worker::new(broker.queue()).on(async |_: Job<Ping>| {
        sleep(4 * LEASE).await;
        Ok(())
    });
    let report = run_until_settled(&broker, worker, 3).await;
    assert_eq!((report.received, report.acked, report.lost), (3, 3, 0));
    let beats = extends(&broker);
    assert!((11..=12).contains(&beats.len()), "{beats:?}");
    for (nth, (at, mut receipts)) in (1..).zip(beats) {
        receipts.sort();
        assert_eq!(receipts, ["a", "b", "c"]);
        let expected = start + LEASE / 3 * nth;
        assert!(at >= expected && at < expected + Duration::from_millis(100), "{:?}", at - expected);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_extended_once_it_has_its_verdict() {
    let broker = Scripted::default();
    broker.ready("short", ping(0));
    broker.ready("long", ping(60));
    let worker = Worker::new(broker.queue()).on(async |job: Job<Ping>| {
        sleep(Duration::from_secs(job.payload.0.into())).await;
        Ok(())
    });
    run_until_settled(&broker, worker, 2).await;
    assert!(extends(&broker).iter().all(|(_, receipts)| receipts == &["long"]));
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_fails_or_hangs_is_repeated_in_time() {
    for answer in [Answer::Error(away()), Answer::Never] {
        let broker = Scripted::default();
        broker.ready("a", ping(1));
        broker.extend_answers(Some(answer));
        let (stop, stopped) = oneshot::channel::<()>();
        let worker = Worker::new(broker.queue()).on(async |_: Job<Ping>| {
            sleep(2 * LEASE).await;
            Ok(())
        });
        let running = tokio::spawn(worker.run([Q], stopped));
        sleep(LEASE / 2).await;
        broker.extend_answers(None);
        sleep(2 * LEASE).await;
        drop(stop);
        let report = running.await.unwrap().unwrap();
        assert_eq!((report.acked, report.lost), (1, 0));
        assert_eq!(broker.verdicts(), [("a".to_owned(), Verdict::Ack)]);
    }
}

/// Runs a handler that would never end, and answers when its future was dropped and when its lease said that it is lost.
async fn lose(answer: Answer<Extended>) -> (Duration, Duration) {
    let broker = Scripted::default();
    broker.extend_answers(Some(answer));
    let (dropped, lost) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
    let state = (dropped.clone(), lost.clone());
    let worker = Worker::new(broker.queue()).on(with(state, async |(dropped, lost), job: Job<Ping>| {
        let _tell = Tell(dropped);
        tokio::spawn(async move {
            job.lease.lost().await;
            *lost.lock() = Some(Instant::now());
        });
        std::future::pending().await
    }));
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker.run([Q], stopped));
    let start = Instant::now();
    broker.ready("a", ping(1));
    sleep(2 * LEASE).await;
    drop(stop);
    let report = running.await.unwrap().unwrap();
    assert_eq!((report.received, report.lost), (1, 1));
    assert_eq!(broker.verdicts(), [], "a lost lease gets no verdict");
    let of = |cell: Arc<Mutex<Option<Instant>>>| cell.lock().expect("it never happened") - start;
    (of(dropped), of(lost))
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_broker_says_is_lost_drops_the_handler_at_once() {
    let (dropped, lost) = lose(Answer::Each(Extended::LeaseLost)).await;
    for at in [dropped, lost] {
        assert!(at >= LEASE / 3 && at < LEASE / 3 + Duration::from_secs(1), "{at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_end_has_passed_is_lost_whatever_the_broker_does() {
    for answer in [Answer::Error(away()), Answer::Never] {
        let (dropped, lost) = lose(answer).await;
        for at in [dropped, lost] {
            assert!(at >= LEASE && at < LEASE + Duration::from_secs(1), "{at:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_extend_its_lease_itself() {
    let broker = Scripted::default();
    broker.ready("a", ping(1));
    let kept = Arc::new(Mutex::new(None::<Lease>));
    let worker = Worker::new(broker.queue()).on(with(kept.clone(), async |kept, job: Job<Ping>| {
        sleep(Duration::from_secs(3)).await;
        let before = job.lease.until();
        let answer = job.lease.extend().await?;
        assert_eq!(answer, Extended::Until(Instant::now() + LEASE));
        assert_eq!(job.lease.until(), before + Duration::from_secs(3));
        *kept.lock() = Some(job.lease);
        Ok(())
    }));
    assert_eq!(run_until_settled(&broker, worker, 1).await.acked, 1);
    let kept = kept.lock().take().unwrap();
    assert_eq!(kept.extend().await.unwrap(), Extended::LeaseLost, "its consumer is gone");
    kept.lost().await;
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_job_of_ones_own_lasts_a_day() {
    let job = Job::of(QueueName::from_static("q"), Bytes::new());
    let start = Instant::now();
    sleep(Duration::from_secs(3600)).await;
    assert!(matches!(job.lease.extend().await.unwrap(), Extended::Until(_)));
    job.lease.lost().await;
    assert!(start.elapsed() >= Duration::from_secs(25 * 3600));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_does_not_stop_the_heartbeats() {
    let broker = Scripted::default();
    let release = Arc::new(AtomicBool::new(false));
    let worker = Worker::new(broker.queue()).lease(Duration::from_millis(300)).on(with(
        release.clone(),
        async |release, job: Job<Ping>| {
            while job.payload.0 == 0 && !release.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            while job.payload.0 == 1 && !release.load(SeqCst) {
                sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        },
    ));
    broker.ready("blocks", ping(0));
    broker.ready("waits", ping(1));
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker.run([Q], stopped));
    let both = |(_, receipts): &(Instant, Vec<String>)| receipts.len() == 2;
    broker
        .until("ten heartbeats of both", |broker| {
            extends(broker).iter().filter(|beat| both(beat)).count() >= 10
        })
        .await;
    release.store(true, SeqCst);
    broker.until_settled(2).await;
    drop(stop);
    assert_eq!(running.await.unwrap().unwrap().acked, 2);
}
