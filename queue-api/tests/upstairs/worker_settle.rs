//! How verdicts reach the broker: in batches, again after a failure, and what the dead letter hook is told.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{
    DeadReason, Death, Failure, Job, Message, QueueName, Settled, Unknown, Verdict, Worker, with,
};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;

use crate::scripted::{Answer, Call, LEASE, Ping, Q, Scripted, away, ping};
use crate::worker_handlers::run_until_settled;

fn batches(broker: &Scripted) -> Vec<(Instant, usize)> {
    broker.times(|call| match call {
        Call::Settle(verdicts) => Some(verdicts.len()),
        _ => None,
    })
}

fn acks(broker: &Scripted) -> Worker {
    Worker::new(broker.queue()).on(async |_: Job<Ping>| Ok(()))
}

#[tokio::test(start_paused = true)]
async fn verdicts_that_come_together_leave_together() {
    let broker = Scripted::default();
    (0..16).for_each(|n| broker.ready(&n.to_string(), ping(n)));
    let gate = Arc::new(Semaphore::new(0));
    let worker = Worker::new(broker.queue()).on(with(gate.clone(), async |gate, _: Job<Ping>| {
        gate.acquire().await?.forget();
        Ok(())
    }));
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker.run([Q], stopped));
    tokio::time::sleep(Duration::from_secs(1)).await;
    gate.add_permits(16);
    broker.until_settled(16).await;
    drop(stop);
    assert_eq!(running.await.unwrap().unwrap().acked, 16);
    assert!(batches(&broker).len() <= 2, "{:?}", batches(&broker));
}

#[tokio::test(start_paused = true)]
async fn the_next_receive_is_called_before_the_verdict_is_sent() {
    let broker = Scripted::default();
    broker.ready("a", ping(1));
    run_until_settled(&broker, acks(&broker).concurrency(1), 1).await;
    let receive = Call::Receive { queue: Q, max: 1 };
    let settle = Call::Settle(vec![("a".into(), Verdict::Ack)]);
    assert_eq!(broker.calls()[..3], [receive.clone(), receive, settle]);
}

#[tokio::test(start_paused = true)]
async fn a_receive_asks_for_the_free_slots_and_only_with_free_slots() {
    let broker = Scripted::default();
    (0..5).for_each(|n| broker.ready(&n.to_string(), ping(n)));
    let gate = Arc::new(Semaphore::new(0));
    let worker =
        Worker::new(broker.queue()).concurrency(3).on(with(gate.clone(), async |gate, _: Job<Ping>| {
            gate.acquire().await?.forget();
            Ok(())
        }));
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker.run([Q], stopped));
    let asked = |broker: &Scripted| {
        let max = |call: &Call| if let Call::Receive { max, .. } = call { Some(*max) } else { None };
        broker.times(max).into_iter().map(|(_, max)| max).collect::<Vec<_>>()
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(asked(&broker), [3], "no room, no call");
    gate.add_permits(2);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(asked(&broker), [3, 2]);
    gate.add_permits(3);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(asked(&broker), [3, 2, 3], "idle, and one call pending");
    drop(stop);
    assert_eq!(running.await.unwrap().unwrap().acked, 5);
}

#[tokio::test(start_paused = true)]
async fn a_verdict_is_repeated_while_the_broker_is_away() {
    let broker = Scripted::default();
    broker.ready("a", ping(1));
    broker.settle_answers([
        Answer::Error(away()),
        Answer::Error(away()),
        Answer::Each(Settled::AlreadySettled),
    ]);
    let report = run_until_settled(&broker, acks(&broker), 3).await;
    assert_eq!((report.acked, report.unsettled), (1, 0), "the first one had taken effect");
    assert_eq!(broker.verdicts(), vec![("a".to_owned(), Verdict::Ack); 3]);
    let at: Vec<Instant> = batches(&broker).iter().map(|(at, _)| *at).collect();
    assert!(
        at[1] - at[0] >= Duration::from_millis(50) && at[2] - at[1] >= Duration::from_millis(100),
        "{at:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_verdict_is_given_up_when_its_lease_ends() {
    let broker = Scripted::default();
    broker.settle_answers(vec![Answer::Error(away()); 1000]);
    broker.ready("a", ping(1));
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(acks(&broker).run([Q], stopped));
    let start = Instant::now();
    tokio::time::sleep(3 * LEASE).await;
    let last = batches(&broker).last().unwrap().0 - start;
    assert!(last >= LEASE - Duration::from_secs(1) && last < LEASE + Duration::from_secs(6), "{last:?}");
    drop(stop);
    assert_eq!(running.await.unwrap().unwrap().unsettled, 1);
}

#[tokio::test(start_paused = true)]
async fn verdicts_that_cannot_be_delivered_stop_the_fetching() {
    let broker = Scripted::default();
    (0..100).for_each(|n| broker.ready(&n.to_string(), ping(n)));
    broker.settle_answers(vec![Answer::Never; 100]);
    let (_stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(acks(&broker).concurrency(4).stop_deadline(Duration::ZERO).run([Q], stopped));
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(_stop);
    let report = running.await.unwrap().unwrap();
    assert_eq!((report.received, report.unsettled), (8, 8), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_holds_up_no_later_verdict() {
    let broker = Scripted::default();
    (0..4).for_each(|n| broker.ready(&n.to_string(), ping(n)));
    broker.settle_answers([Answer::Never]);
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(acks(&broker).concurrency(1).stop_deadline(Duration::ZERO).run([Q], stopped));
    broker.until_settled(4).await;
    let at: Vec<Instant> = batches(&broker).iter().map(|(at, _)| *at).collect();
    assert!(at[1] - at[0] < Duration::from_millis(100), "{at:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(stop);
    let report = running.await.unwrap().unwrap();
    assert_eq!((report.acked, report.unsettled), (3, 1), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_verdict_that_failed_is_repeated_however_many_others_get_through() {
    let broker = Scripted::default();
    broker.ready("a", ping(1));
    broker.settle_answers([Answer::Error(away())]);
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(acks(&broker).run([Q], stopped));
    for n in 0..100 {
        broker.ready(&n.to_string(), ping(n));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(stop);
    assert_eq!(running.await.unwrap().unwrap().acked, 101);
    let a = broker.times(|call| match call {
        Call::Settle(verdicts) => verdicts.iter().any(|(id, _)| id == "a").then_some(()),
        _ => None,
    });
    assert_eq!(a.len(), 2);
    assert!(a[1].0 - a[0].0 <= Duration::from_millis(150), "{a:?}");
}

#[tokio::test(start_paused = true)]
async fn a_verdict_on_a_lost_lease_is_counted_as_lost() {
    let broker = Scripted::default();
    broker.settles_as("a", Settled::LeaseLost);
    broker.ready("a", ping(1));
    assert_eq!(run_until_settled(&broker, acks(&broker), 1).await.lost, 1);
}

fn deaths() -> (Arc<Mutex<Vec<Death>>>, impl polyqueue::DeadLetterHook) {
    let deaths = Arc::new(Mutex::new(Vec::new()));
    let kept = deaths.clone();
    let hook = move |death: Death| {
        let kept = kept.clone();
        async move { kept.lock().push(death) }
    };
    (deaths, hook)
}

#[tokio::test(start_paused = true)]
async fn the_hook_is_told_of_each_death() {
    let broker = Scripted::default();
    broker.settles_as("last", Settled::Died);
    broker.settles_as("other", Settled::Died);
    broker.ready_again("first", 1, ping(1));
    broker.ready_again("last", 4, ping(4));
    broker.ready("other", Message::new("{}").with_kind("other"));
    let (deaths, hook) = deaths();
    let worker = Worker::new(broker.queue())
        .unknown(Unknown::DeadLetter)
        .on_dead_letter(hook)
        .on(async |_: Job<Ping>| Err(Failure::from("boom")));
    let report = run_until_settled(&broker, worker, 3).await;
    assert_eq!((report.retried, report.died), (1, 2));
    let mut told = deaths.lock().clone();
    told.sort_by_key(|death| death.attempts);
    let [other, last] = &told[..] else { panic!("{told:?}") };
    assert_eq!((other.reason, other.message.kind(), &other.queue), (DeadReason::Rejected, "other", &Q));
    assert_eq!((last.reason, last.error.as_str(), last.attempts), (DeadReason::MaxAttempts, "boom", 4));
}

#[tokio::test(start_paused = true)]
async fn a_death_whose_answer_was_lost_is_told_all_the_same() {
    let broker = Scripted::default();
    let own = ping(1).with_max_attempts(std::num::NonZeroU32::new(2).unwrap());
    broker.ready_again("a", 2, own);
    broker.settle_answers([Answer::Error(away()), Answer::Each(Settled::AlreadySettled)]);
    let (deaths, hook) = deaths();
    let worker =
        Worker::new(broker.queue()).on_dead_letter(hook).on(async |_: Job<Ping>| Err(Failure::from("boom")));
    let report = run_until_settled(&broker, worker, 2).await;
    assert_eq!((report.died, deaths.lock().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_or_is_slow_harms_nobody() {
    let broker = Scripted::default();
    (0..20).for_each(|n| broker.settles_as(&n.to_string(), Settled::Died));
    (0..20).for_each(|n| broker.ready(&n.to_string(), ping(n)));
    (20..40).for_each(|n| broker.ready(&n.to_string(), ping(n)));
    let slow = Arc::new(Notify::new());
    let kept = slow.clone();
    let hook = move |death: Death| {
        let slow = slow.clone();
        assert!(death.message.payload() != "3", "not even a panic before the future");
        async move {
            assert!(death.message.payload() != "4", "nor one within");
            slow.notified().await;
        }
    };
    let worker = Worker::new(broker.queue())
        .concurrency(2)
        .on_dead_letter(hook)
        .on(async |job: Job<Ping>| if job.payload.0 < 20 { Err(Failure::fatal("boom")) } else { Ok(()) });
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker.run([Q], stopped));
    broker.until_settled(40).await;
    drop(stop);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!running.is_finished(), "it waits for the hooks");
    kept.notify_waiters();
    let report = running.await.unwrap().unwrap();
    assert_eq!((report.acked, report.died), (20, 20));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_starves_no_other() {
    let broker = Scripted::default();
    let other = QueueName::from_static("other");
    (0..10).for_each(|n| broker.ready(&format!("stuck {n}"), ping(0)));
    (0..10).for_each(|n| broker.ready_in(other.clone(), &n.to_string(), ping(1)));
    let worker = Worker::new(broker.queue()).concurrency(1).stop_deadline(Duration::ZERO).on(
        async |job: Job<Ping>| {
            if job.payload.0 == 0 { std::future::pending().await } else { Ok(()) }
        },
    );
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker.run([Q, other], stopped));
    broker.until_settled(10).await;
    drop(stop);
    let report = running.await.unwrap().unwrap();
    assert_eq!((report.acked, report.released), (10, 1));
}
