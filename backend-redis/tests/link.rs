//! Slow, stalled and half-dead connections: what cannot wait for long lets nobody else down, and what was on its way comes back.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use polyqueue::{ConnectOptions, Consumer, Delivery, Message, Queue, Settled, Subscription, Verdict};
use polyqueue_conformance::broker::{Broker, Proxy};
use polyqueue_conformance::{Direction, Link};
use polyqueue_redis::PROVIDER;
use support::{Bench, QUEUE, receive, settle};
use tokio::time::Instant;
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// The server stops for 1.3 s while 16 publishes are under way.
async fn publishes_through_a_stall(bench: &Bench, beside: impl AsyncFn()) {
    let stalled = bench.command::<()>(&["CLIENT", "PAUSE", "1300", "ALL"]);
    stalled.await;
    let publishes = join_all((0..16).map(|n| async move {
        bench.queue.publish(&QUEUE.into(), vec![Message::new(n.to_string())]).await.unwrap().remove(0)
    }));
    let (published, ()) = tokio::join!(publishes, beside());
    assert!(published.iter().all(Result::is_ok), "{published:?}");
    assert_eq!(bench.stats().await.ready, 16);
}

#[tokio::test]
async fn a_look_at_the_health_of_a_stalled_server_harms_nobody() {
    let bench = Bench::start().await;
    let probe = async || assert!(!bench.queue.health().await.healthy);
    publishes_through_a_stall(&bench, probe).await;
    assert!(bench.queue.health().await.healthy);
}

#[tokio::test]
async fn a_short_receive_at_a_stalled_server_harms_nobody() {
    let bench = Bench::start().await;
    let consumer = bench.queue.subscribe(&Subscription::new(QUEUE)).await.unwrap();
    assert!(consumer.receive(1, Duration::from_millis(50)).await.unwrap().is_empty());
    let publish = async {
        sleep(SECOND / 10).await;
        bench.command::<()>(&["CLIENT", "PAUSE", "1300", "ALL"]).await;
        bench.send(QUEUE, Message::new("")).await
    };
    let (published, _) = tokio::join!(publish, consumer.receive(1, SECOND * 3 / 10));
    published.unwrap();
}

#[tokio::test]
async fn looks_at_the_health_replace_a_dead_connection_in_the_end() {
    let bench = Bench::start().await;
    let proxy = Proxy::start(bench.broker.port()).unwrap();
    let options = ConnectOptions::new(proxy.through(&bench.broker.url())).deadline(2 * SECOND);
    let queue = PROVIDER.connect(options).await.unwrap();
    proxy.swallow(Direction::ToClient);
    for _ in 0..4 {
        assert!(!queue.health().await.healthy);
    }
    sleep(SECOND).await;
    let made = proxy.traffic().connections;
    assert!(made > 2, "{made}");
}

/// A handle through a proxy that passes on so many bytes a second.
async fn slow(bench: &Bench, bytes_a_second: u32) -> (Proxy, Arc<dyn Queue>) {
    let proxy = Proxy::start(bench.broker.port()).unwrap();
    let options = ConnectOptions::new(proxy.through(&bench.broker.url())).deadline(10 * SECOND);
    let queue = PROVIDER.connect(options).await.unwrap();
    proxy.slow(bytes_a_second.into());
    (proxy, queue)
}

/// Receives and acknowledges so many. None may have failed before.
async fn take(consumer: &dyn Consumer, count: usize) {
    let (mut seen, end) = (HashSet::new(), Instant::now() + 60 * SECOND);
    while seen.len() < count {
        assert!(Instant::now() < end, "{} of {count}", seen.len());
        for held in consumer.receive(100, 5 * SECOND).await.unwrap_or_default() {
            assert_eq!(held.attempt, 1);
            assert!(held.lease_until > Instant::now());
            assert_eq!(settle(consumer, &held, Verdict::Ack).await, Settled::Applied);
            assert!(seen.insert(held.message.id().clone()));
        }
    }
}

#[tokio::test]
async fn a_backlog_comes_over_a_slow_link_unharmed() {
    let bench = Bench::start().await;
    for _ in 0..100 {
        bench.publish(Message::new(vec![7; 64 * 1024])).await;
    }
    let (_proxy, queue) = slow(&bench, 500_000).await;
    let consumer = queue.subscribe(&Subscription::new(QUEUE).lease(12 * SECOND)).await.unwrap();
    take(&*consumer, 100).await;
    let stats = bench.stats().await;
    assert_eq!((stats.ready, stats.in_flight, stats.dead), (0, Some(0), 0));
}

#[tokio::test]
async fn one_message_that_takes_longer_than_deadline_and_lease_comes_all_the_same() {
    let bench = Bench::start().await;
    bench.publish(Message::new(vec![7; 16_000_000])).await;
    let (_proxy, queue) = slow(&bench, 1_000_000).await;
    let consumer = queue.subscribe(&Subscription::new(QUEUE).lease(12 * SECOND)).await.unwrap();
    take(&*consumer, 1).await;
    let stats = bench.stats().await;
    assert_eq!((stats.ready, stats.in_flight, stats.dead), (0, Some(0), 0));
}

fn texts(deliveries: &[Delivery]) -> Vec<&str> {
    let text = |held: &'_ Delivery| std::str::from_utf8(held.message.payload()).unwrap().to_owned();
    deliveries.iter().map(|held| &*Box::leak(text(held).into_boxed_str())).collect()
}

/// The answer to a claim is lost: its messages are back long before the lease would end, unharmed and in order.
#[tokio::test]
async fn what_a_lost_answer_held_comes_back_at_once() {
    let bench = Bench::start().await;
    let proxy = Proxy::start(bench.broker.port()).unwrap();
    let url = proxy.through(&bench.broker.url());
    let queue = PROVIDER.connect(ConnectOptions::new(url).deadline(SECOND)).await.unwrap();
    let consumer = queue.subscribe(&Subscription::new(QUEUE)).await.unwrap();
    assert!(receive(&*consumer, 0).await.is_none());
    let all: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    let batch = all.iter().map(|text| Message::new(text.clone())).collect();
    bench.queue.publish(&QUEUE.into(), batch).await.unwrap();
    proxy.swallow(Direction::ToClient);
    let began = Instant::now();
    let _ = consumer.receive(30, SECOND / 10).await;
    assert_eq!(bench.stats().await.in_flight, Some(30));
    proxy.cut();
    proxy.heal();
    let other = bench.consumer().await;
    let mut held = Vec::new();
    while held.len() < 30 {
        assert!(began.elapsed() < 15 * SECOND, "{} came back", held.len());
        held.extend(other.receive(30, SECOND).await.unwrap());
    }
    assert!(held.iter().all(|held| held.attempt == 1));
    assert_eq!(texts(&held), all);
}

/// The server is stopped while a claim waits before it, and goes on when nobody waits for the answer any more.
#[tokio::test]
async fn a_server_that_comes_back_leases_to_nobody() {
    let bench = Bench::start().await;
    let hasty = bench.another(SECOND).await;
    let consumer = hasty.subscribe(&Subscription::new(QUEUE)).await.unwrap();
    assert!(receive(&*consumer, 0).await.is_none());
    bench.publish(Message::new("waits")).await;
    bench.broker.freeze().unwrap();
    let _ = consumer.receive(1, SECOND / 10).await;
    drop(consumer);
    sleep(SECOND).await;
    bench.broker.thaw().unwrap();
    let delivery = receive(&*bench.consumer().await, 3_000).await.unwrap();
    assert_eq!(delivery.attempt, 1);
}

/// More than a server lets wait for one who listens.
#[tokio::test]
async fn large_replies_come_over_a_slow_link_in_order() {
    let bench = Bench::start().await;
    let (_proxy, asker) = slow(&bench, 20_000_000).await;
    let inbox = asker.inbox().await.unwrap();
    let to = polyqueue::Destination::Reply(inbox.address().clone());
    let mut sent = Vec::new();
    for bytes in [12_000_000, 12_000_000, 10, 12_000_000, 12_000_000] {
        let reply = Message::new(vec![7; bytes]);
        sent.push(reply.id().clone());
        bench.send(to.clone(), reply).await.unwrap();
    }
    let mut came = Vec::new();
    while came.len() < 5 {
        let replies = inbox.receive(20 * SECOND).await.unwrap();
        assert!(!replies.is_empty(), "{} came", came.len());
        came.extend(replies.iter().map(|reply| reply.id().clone()));
    }
    assert_eq!(came, sent);
    assert!(bench.command::<Vec<String>>(&["KEYS", "*:r:*"]).await.is_empty());
}
