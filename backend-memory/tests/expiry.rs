//! Very many times to live that end together.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{Duration, Instant};

use polyqueue::{
    Admin, Certainty, ConnectOptions, DeadFilter, DeadId, Error, Message, Page, Purge, Queue, QueueName,
    QueueSpec, Reschedule, Subscription, Verdict,
};
use polyqueue_memory::MemoryQueue;

const Q: QueueName = QueueName::from_static("q");

/// A queue with so many messages that expire in no order within a quarter of an hour.
async fn with_mortals(queue: &MemoryQueue, many: u64) {
    queue.declare(&QueueSpec::new(Q)).await.unwrap();
    for first in (0..many).step_by(400) {
        let mortal = |n: u64| {
            let ttl = 1 + n.wrapping_mul(6_364_136_223_846_793_005) % 1_000_000;
            Message::new("x").with_ttl(Duration::from_millis(ttl))
        };
        queue.publish(&Q.into(), (first..first + 400).map(mortal).collect()).await.unwrap();
    }
}

/// What this thread has worked: what a busy machine does beside it is not in it.
fn worked() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(told.split(' ').next().unwrap().parse().unwrap())
}

/// What it costs to receive and ack as many.
async fn acks(many: u64) -> Duration {
    let queue = MemoryQueue::new();
    queue.declare(&QueueSpec::new(Q)).await.unwrap();
    for _ in 0..many / 400 {
        queue.publish(&Q.into(), vec![Message::new("x"); 400]).await.unwrap();
    }
    let consumer = queue.subscribe(&Subscription::new(Q)).await.unwrap();
    let began = worked();
    for _ in 0..many / 400 {
        let mut left = 400;
        while left > 0 {
            let got = consumer.receive(left, Duration::ZERO).await.unwrap();
            left -= got.len();
            let acks: Vec<_> = got.into_iter().map(|one| (one.receipt, Verdict::Ack)).collect();
            assert!(consumer.settle(&acks).await.unwrap().iter().all(Result::is_ok));
        }
    }
    worked() - began
}

#[tokio::test(start_paused = true)]
async fn a_death_costs_about_what_an_ack_does() {
    const MANY: u64 = 100_000;
    let acked = acks(MANY).await;
    let queue = MemoryQueue::new();
    with_mortals(&queue, MANY).await;
    tokio::time::advance(Duration::from_secs(2_000)).await;
    let began = worked();
    assert_eq!(queue.stats(&Q).await.unwrap().dead, MANY);
    let died = worked() - began;
    assert!(died < 4 * acked, "{MANY} acks took {acked:?}, as many deaths {died:?}");
}

fn check_late<T: std::fmt::Debug>(what: &str, began: Instant, answer: polyqueue::Result<T>) {
    let took = began.elapsed();
    let error = answer.expect_err(what);
    assert!(matches!(error, Error::Timeout { .. }), "{what}: {error}");
    assert_eq!(error.certainty(), Certainty::Definite, "{what}: {error}");
    // With room for a machine that does something else; all of them take longer.
    assert!(took < Duration::from_secs(1), "{what} took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_finds_more_due_than_it_has_time_for_ends_in_time() {
    const MANY: u64 = 400_000;
    let options = ConnectOptions::new("memory://expiry").deadline(Duration::from_millis(20));
    let queue = MemoryQueue::connect(&options).unwrap();
    with_mortals(&queue, MANY).await;
    let consumer = queue.subscribe(&Subscription::new(Q)).await.unwrap();
    tokio::time::advance(Duration::from_secs(2_000)).await;
    tokio::time::resume();
    let (message, letter) = (Message::new("x"), [DeadId::new("0-1")]);
    let id = message.id().clone();
    check_late("stats", Instant::now(), queue.stats(&Q).await);
    check_late("purge", Instant::now(), queue.purge(&Q, Purge::Waiting).await);
    check_late("purge", Instant::now(), queue.purge(&Q, Purge::Dead).await);
    let all = DeadFilter::default();
    check_late("dead_letters", Instant::now(), queue.dead_letters(&Q, &all, Page::first(1)).await);
    check_late("redrive", Instant::now(), queue.redrive(&Q, &letter).await);
    check_late("discard", Instant::now(), queue.discard(&Q, &letter).await);
    check_late("reschedule", Instant::now(), queue.reschedule(&Q, &id, Reschedule::Cancel).await);
    check_late("publish", Instant::now(), queue.publish(&Q.into(), vec![message]).await);
    check_late("receive", Instant::now(), consumer.receive(1, Duration::ZERO).await);
    // Each got on.
    let mut stats = queue.stats(&Q).await;
    while matches!(stats, Err(Error::Timeout { .. })) {
        stats = queue.stats(&Q).await;
    }
    assert_eq!(stats.unwrap().dead, MANY);
}
