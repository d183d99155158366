//! Receives that wait: woken, dropped, closed, sharing one broker; under a paused clock.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use polyqueue::{
    Admin, ConnectOptions, Consumer, Error, Health, Message, Priority, Queue, QueueName, Receipt,
    Subscription, Verdict, connect,
};
use polyqueue_memory::{MemoryQueue, PROVIDER};
use tokio::time::{Instant, sleep};

const QUEUE: QueueName = QueueName::from_static("q");
const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

async fn declared() -> Arc<MemoryQueue> {
    let queue = Arc::new(MemoryQueue::new());
    queue.declare(&QUEUE.into()).await.unwrap();
    queue
}

async fn publish(queue: &dyn Queue, message: Message) {
    queue.publish(&QUEUE.into(), vec![message]).await.unwrap().remove(0).unwrap();
}

async fn subscribed(queue: &dyn Queue) -> Arc<dyn Consumer> {
    queue.subscribe(&Subscription::new(QUEUE).lease(5 * SECOND)).await.unwrap().into()
}

/// Lets every task run until it waits.
async fn settle_down() {
    sleep(MS).await;
}

#[tokio::test(start_paused = true)]
async fn a_receive_waits_exactly_as_long_as_it_was_told() {
    let queue = declared().await;
    let consumer = subscribed(&*queue).await;
    let before = Instant::now();
    assert!(consumer.receive(1, 3 * SECOND).await.unwrap().is_empty());
    assert!(before.elapsed() >= 3 * SECOND && before.elapsed() <= 3 * SECOND + MS);
    assert!(consumer.receive(1, Duration::ZERO).await.unwrap().is_empty());
    assert!(consumer.receive(0, 3 * SECOND).await.unwrap().is_empty());
    assert!(before.elapsed() <= 3 * SECOND + MS);
}

#[tokio::test(start_paused = true)]
async fn a_publish_wakes_the_oldest_receive() {
    let queue = declared().await;
    let consumer = subscribed(&*queue).await;
    let waits: Vec<_> = (0..3)
        .map(|_| {
            let consumer = consumer.clone();
            tokio::spawn(async move { consumer.receive(1, 60 * SECOND).await.unwrap().remove(0) })
        })
        .collect();
    settle_down().await;
    for text in ["a", "b", "c"] {
        publish(&*queue, Message::new(text)).await;
    }
    let mut got = Vec::new();
    for wait in waits {
        got.push(wait.await.unwrap().message.payload().clone());
    }
    assert_eq!(got, ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_receive_notices_due_messages_and_ended_leases_by_itself() {
    let queue = declared().await;
    let consumer = subscribed(&*queue).await;
    let waits: Vec<_> = (0..3)
        .map(|_| {
            let consumer = consumer.clone();
            tokio::spawn(async move {
                let got = consumer.receive(1, 60 * SECOND).await.unwrap();
                (got[0].message.payload().clone(), Instant::now())
            })
        })
        .collect();
    settle_down().await;
    let before = Instant::now();
    publish(&*queue, Message::new("six").with_delay(6 * SECOND)).await;
    publish(&*queue, Message::new("two").with_delay(2 * SECOND)).await;
    let mut got = Vec::new();
    for wait in waits {
        got.push(wait.await.unwrap());
    }
    // The lease of `two` ends at 7.
    for ((text, at), (expected, due)) in got.into_iter().zip([("two", 2), ("six", 6), ("two", 7)]) {
        let after = at - before;
        assert_eq!(text, expected);
        assert!(after >= due * SECOND && after <= due * SECOND + 2 * MS, "{expected}: {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_receive_that_is_dropped_at_any_poll_loses_nothing() {
    let queue = declared().await;
    let consumer = subscribed(&*queue).await;
    let mut context = Context::from_waker(Waker::noop());
    for polls in 0..4 {
        {
            let mut wait = pin!(consumer.receive(1, 60 * SECOND));
            for _ in 0..polls {
                assert!(wait.as_mut().poll(&mut context).is_pending());
            }
            publish(&*queue, Message::new("x")).await;
            let in_flight = queue.stats(&QUEUE).await.unwrap().in_flight;
            assert_eq!(in_flight, Some(u64::from(polls > 0)), "handed to it as soon as it waits");
        }
        let got = consumer.receive(9, Duration::ZERO).await.unwrap();
        assert_eq!((got.len(), got[0].attempt), (1, 1), "after {polls} polls");
        consumer.settle(&[(got[0].receipt.clone(), Verdict::Ack)]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn closing_the_handle_ends_everything_at_once() {
    let queue = declared().await;
    let consumer = subscribed(&*queue).await;
    publish(&*queue, Message::new("x")).await;
    let held = consumer.receive(1, Duration::ZERO).await.unwrap();
    let blocked = tokio::spawn({
        let consumer = consumer.clone();
        async move { consumer.receive(1, 60 * SECOND).await }
    });
    settle_down().await;
    let before = Instant::now();
    for _ in 0..3 {
        queue.close().await.unwrap();
    }
    assert!(matches!(blocked.await.unwrap(), Err(Error::Closed)));
    assert!(before.elapsed() <= MS);
    let receipt = held[0].receipt.clone();
    assert!(matches!(consumer.receive(1, SECOND).await, Err(Error::Closed)));
    assert!(matches!(consumer.settle(&[(receipt.clone(), Verdict::Ack)]).await, Err(Error::Closed)));
    assert!(matches!(consumer.extend(&[receipt]).await, Err(Error::Closed)));
    assert!(matches!(queue.publish(&QUEUE.into(), vec![Message::new("")]).await, Err(Error::Closed)));
    assert!(matches!(queue.stats(&QUEUE).await, Err(Error::Closed)));
    assert!(matches!(queue.queues().await, Err(Error::Closed)));
    assert!(matches!(queue.subscribe(&Subscription::new(QUEUE)).await, Err(Error::Closed)));
    assert!(matches!(queue.health().await, Health { healthy: false, .. }));
    assert_eq!(queue.info().provider, "memory");
    consumer.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_a_consumer_ends_its_receives_empty() {
    let queue = declared().await;
    let (closed, other) = (subscribed(&*queue).await, subscribed(&*queue).await);
    let blocked = tokio::spawn({
        let consumer = closed.clone();
        async move { consumer.receive(1, 60 * SECOND).await }
    });
    settle_down().await;
    closed.close().await.unwrap();
    closed.close().await.unwrap();
    assert!(blocked.await.unwrap().unwrap().is_empty());
    publish(&*queue, Message::new("x")).await;
    assert!(closed.receive(1, 60 * SECOND).await.unwrap().is_empty());
    assert_eq!(other.receive(1, Duration::ZERO).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn deleting_a_queue_ends_receives_with_not_found() {
    let queue = declared().await;
    let consumer = subscribed(&*queue).await;
    let blocked = tokio::spawn({
        let consumer = consumer.clone();
        async move { consumer.receive(1, 60 * SECOND).await }
    });
    settle_down().await;
    queue.delete(&QUEUE).await.unwrap();
    assert!(matches!(blocked.await.unwrap(), Err(Error::NotFound(name)) if name == QUEUE));
    assert!(matches!(consumer.receive(1, SECOND).await, Err(Error::NotFound(_))));
    assert!(matches!(queue.delete(&QUEUE).await, Err(Error::NotFound(_))));
    assert!(matches!(queue.publish(&QUEUE.into(), vec![Message::new("")]).await, Err(Error::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn one_name_is_one_broker_as_long_as_a_handle_is_open() {
    let url = "memory://shared-by-name?max_bytes=10000";
    let first = connect(&[PROVIDER], ConnectOptions::new(url)).await.unwrap();
    let second = connect(&[PROVIDER], ConnectOptions::new(url)).await.unwrap();
    let apart = connect(&[PROVIDER], ConnectOptions::new(url).namespace("apart")).await.unwrap();
    first.declare(&QUEUE.into()).await.unwrap();
    publish(&*second, Message::new("x")).await;
    assert!(matches!(apart.stats(&QUEUE).await, Err(Error::NotFound(_))));
    assert_eq!(first.stats(&QUEUE).await.unwrap().ready, 1);
    assert_eq!(first.stats(&QUEUE).await.unwrap().counters.published, 0, "the other handle's");
    let differs = connect(&[PROVIDER], ConnectOptions::new("memory://shared-by-name")).await.unwrap_err();
    assert!(matches!(&differs, Error::Invalid { field, .. } if field == "max_bytes"), "{differs}");
    apart.close().await.unwrap();
    drop(first);
    second.close().await.unwrap();
    let reborn = connect(&[PROVIDER], ConnectOptions::new("memory://shared-by-name")).await.unwrap();
    assert!(reborn.queues().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn beyond_the_budget_each_message_is_refused_for_itself() {
    let queue = MemoryQueue::with_max_bytes(1_000);
    queue.declare(&QUEUE.into()).await.unwrap();
    let batch = [200, 900, 100].map(|bytes| Message::new(vec![0; bytes])).to_vec();
    let answers = queue.publish(&QUEUE.into(), batch).await.unwrap();
    assert!(matches!(answers[..], [Ok(_), Err(Error::Full { limit: 1_000, .. }), Ok(_)]), "{answers:?}");
    assert_eq!(queue.stats(&QUEUE).await.unwrap().counters.published, 2);
    let consumer = subscribed(&queue).await;
    let got = consumer.receive(9, Duration::ZERO).await.unwrap();
    assert_eq!(got.iter().map(|delivery| delivery.message.payload().len()).collect::<Vec<_>>(), [200, 100]);
    let acks: Vec<_> = got.into_iter().map(|delivery| (delivery.receipt, Verdict::Ack)).collect();
    consumer.settle(&acks).await.unwrap();
    publish(&queue, Message::new(vec![0; 600])).await;
}

#[tokio::test(start_paused = true)]
async fn each_verdict_is_answered_for_itself() {
    let queue = declared().await;
    let consumer = subscribed(&*queue).await;
    publish(&*queue, Message::new("x")).await;
    publish(&*queue, Message::new("y")).await;
    let got = consumer.receive(2, Duration::ZERO).await.unwrap();
    let year = Verdict::retry(366 * 24 * 3600 * SECOND, "");
    let verdicts = [
        (Receipt::new("garbage"), Verdict::Ack),
        (got[0].receipt.clone(), year),
        (got[1].receipt.clone(), Verdict::Ack),
        (got[1].receipt.clone(), Verdict::Ack),
    ];
    let answers: Vec<String> =
        consumer.settle(&verdicts).await.unwrap().iter().map(|answer| format!("{answer:?}")).collect();
    assert!(answers[0].contains("receipt") && answers[1].contains("after"), "{answers:?}");
    assert_eq!(answers[2..], ["Ok(Applied)", "Ok(AlreadySettled)"]);
    assert_eq!(queue.stats(&QUEUE).await.unwrap().in_flight, Some(1), "an invalid verdict has no effect");
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_clock_is_off_shifts_only_its_own_stamp() {
    let options = ConnectOptions::new("memory://skewed").clock_offset(chrono::TimeDelta::hours(-1));
    let queue = MemoryQueue::connect(&options).unwrap();
    queue.declare(&QUEUE.into()).await.unwrap();
    let before = chrono::Utc::now();
    publish(&queue, Message::new("x").with_delay(2 * SECOND)).await;
    let consumer = subscribed(&queue).await;
    let begun = Instant::now();
    let got = consumer.receive(1, 60 * SECOND).await.unwrap();
    assert!(begun.elapsed() >= 2 * SECOND && begun.elapsed() <= 2 * SECOND + MS);
    let stamp = got[0].message.published_at().unwrap();
    assert!((before - stamp - chrono::TimeDelta::hours(1)).num_minutes() == 0, "{stamp}");
}

#[tokio::test(start_paused = true)]
async fn a_time_is_turned_into_a_delay_at_the_publish_by_the_broker_s_clock() {
    const HOUR: Duration = Duration::from_secs(3600);
    let queue = declared().await;
    let consumer = subscribed(&*queue).await;
    let message = Message::new("x").not_before(chrono::Utc::now() + chrono::TimeDelta::hours(3));
    tokio::time::advance(2 * HOUR).await;
    publish(&*queue, message).await;
    let begun = Instant::now();
    assert_eq!(consumer.receive(1, 2 * HOUR).await.unwrap().len(), 1);
    assert!(begun.elapsed().abs_diff(HOUR) < 5 * SECOND, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn polling_works_without_a_waker_that_knows_anything() {
    let queue = declared().await;
    let consumer = subscribed(&*queue).await;
    let mut wait = pin!(consumer.receive(1, 60 * SECOND));
    let mut context = Context::from_waker(Waker::noop());
    assert!(wait.as_mut().poll(&mut context).is_pending());
    publish(&*queue, Message::new("x")).await;
    assert!(matches!(wait.as_mut().poll(&mut context), Poll::Ready(Ok(got)) if got.len() == 1));
}

/// More is due than one hold of the lock applies: a receive goes on until all is, and others run meanwhile.
#[tokio::test(start_paused = true)]
async fn a_receive_that_finds_much_due_lets_others_run_and_keeps_the_order() {
    let queue = declared().await;
    let late = |nth: u64| {
        let message = Message::new("late").with_delay(Duration::from_millis(1 + nth % 1_000));
        message.with_priority(Priority::new(if nth % 1_000 == 999 { 10 } else { 1 }).unwrap())
    };
    queue.publish(&QUEUE.into(), (0..20_000).map(late).collect()).await.unwrap();
    let consumer = subscribed(&*queue).await;
    tokio::time::advance(60 * SECOND).await;
    let turns = Arc::new(AtomicUsize::new(0));
    let other = tokio::spawn({
        let turns = turns.clone();
        async move {
            loop {
                turns.fetch_add(1, Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    let got = consumer.receive(30, Duration::ZERO).await.unwrap();
    let highest = got.iter().filter(|delivery| delivery.message.priority() == Priority::HIGHEST).count();
    assert_eq!((got.len(), highest), (30, 20));
    assert!(turns.load(Relaxed) >= 20, "{turns:?} turns");
    other.abort();
}
