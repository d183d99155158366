//! Times to live: nothing that has expired is handed out, however much there is of it and whoever wrote it.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::time::Duration;

use polyqueue::{DeadReason, Message, Purge, Settled, Subscription, Verdict};
use support::{Bench, QUEUE, receive, settle};
use tokio::time::Instant;

const LONG: u64 = 10_000;
const SHORT: Duration = Duration::from_millis(150);
/// Long enough that a message is received before its end, on any machine.
const LIFE: Duration = Duration::from_secs(2);

async fn expiring(bench: &Bench) -> u64 {
    bench.command(&["ZCARD", "polyqueue:{q}:x"]).await
}

#[tokio::test]
async fn many_that_expired_are_dead_and_none_is_handed_out() {
    let bench = Bench::start().await;
    let batch = (0..350).map(|n| Message::new(n.to_string()).with_ttl(SHORT)).collect();
    bench.queue.publish(&QUEUE.into(), batch).await.unwrap();
    bench.publish(Message::new("stays")).await;
    assert_eq!(expiring(&bench).await, 350);
    tokio::time::sleep(SHORT).await;
    let consumer = bench.consumer().await;
    let got = consumer.receive(500, Duration::ZERO).await.unwrap();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].message.payload(), "stays");
    let dead = bench.dead().await;
    assert_eq!(dead.len(), 350);
    assert!(dead.iter().all(|(_, reason, attempts)| (*reason, *attempts) == (DeadReason::Expired, 0)));
    assert_eq!(expiring(&bench).await, 0);
}

#[tokio::test]
async fn a_lease_goes_on_and_what_comes_back_too_late_is_dead() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    let published = Instant::now();
    for text in ["ack", "retry", "release"] {
        bench.publish(Message::new(text).with_ttl(LIFE)).await;
    }
    let held = consumer.receive(3, Duration::from_secs(10)).await.unwrap();
    assert_eq!((held.len(), expiring(&bench).await), (3, 0));
    assert_eq!(held[0].message.ttl(), Some(LIFE));
    bench.publish(Message::new("forget").with_ttl(LIFE)).await;
    let forgetful = bench.subscribe(Subscription::new(QUEUE).lease(LIFE)).await;
    assert!(receive(&*forgetful, LONG).await.is_some());
    tokio::time::sleep_until(published + LIFE + SHORT).await;
    assert_eq!(settle(&*consumer, &held[0], Verdict::Ack).await, Settled::Applied);
    assert_eq!(settle(&*consumer, &held[1], Verdict::retry(Duration::ZERO, "late")).await, Settled::Died);
    let release = Verdict::Release { after: Duration::ZERO };
    assert_eq!(settle(&*consumer, &held[2], release).await, Settled::Applied);
    while bench.stats().await.dead < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut dead = bench.dead().await;
    dead.sort_by(|a, b| a.0.cmp(&b.0));
    let expired = |text: &str, attempts| (text.to_owned(), DeadReason::Expired, attempts);
    assert_eq!(dead, [expired("forget", 1), expired("release", 0), expired("retry", 1)]);
}

#[tokio::test]
async fn a_retry_keeps_the_end_and_a_redriven_message_begins_anew() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    bench.publish(Message::new("x").with_ttl(LIFE)).await;
    let first = receive(&*consumer, LONG).await.unwrap();
    settle(&*consumer, &first, Verdict::retry(Duration::from_millis(5), "once")).await;
    while bench.stats().await.dead == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(bench.dead().await, [("x".into(), DeadReason::Expired, 1)]);
    bench.queue.redrive(&QUEUE, &bench.dead_ids().await).await.unwrap();
    assert_eq!(expiring(&bench).await, 1);
    let again = receive(&*consumer, LONG).await.unwrap();
    assert_eq!((again.attempt, again.message.ttl(), again.message.retries()), (1, Some(LIFE), 1));
}

#[tokio::test]
async fn a_delayed_retry_that_expires_meanwhile_is_never_handed_out() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    bench.publish(Message::new("x").with_ttl(LIFE)).await;
    let first = receive(&*consumer, LONG).await.unwrap();
    settle(&*consumer, &first, Verdict::retry(LIFE + SHORT, "once")).await;
    assert!(receive(&*consumer, 3000).await.is_none());
    assert_eq!(bench.dead().await, [("x".into(), DeadReason::Expired, 1)]);
}

#[tokio::test]
async fn a_foreign_entry_that_has_expired_is_not_handed_out() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    bench.command::<String>(&["XADD", "polyqueue:{q}:s:5", "*", "data", "old", "e", "1700000000000"]).await;
    bench.command::<String>(&["XADD", "polyqueue:{q}:s:5", "*", "data", "new", "e", "9700000000000"]).await;
    assert_eq!(receive(&*consumer, LONG).await.unwrap().message.payload(), "new");
    assert_eq!(bench.dead().await, [("old".into(), DeadReason::Expired, 0)]);
}

#[tokio::test]
async fn a_purge_leaves_nothing_that_could_expire() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    bench.publish(Message::new("held").with_ttl(Duration::from_secs(60))).await;
    let held = receive(&*consumer, LONG).await.unwrap();
    for n in 0..120 {
        bench.publish(Message::new(n.to_string()).with_ttl(Duration::from_secs(60))).await;
    }
    assert_eq!(bench.queue.purge(&QUEUE, Purge::Waiting).await.unwrap(), 120);
    assert_eq!(expiring(&bench).await, 0);
    settle(&*consumer, &held, Verdict::Release { after: Duration::ZERO }).await;
    assert_eq!(expiring(&bench).await, 1);
}
