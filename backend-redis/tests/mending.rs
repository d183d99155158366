//! What was taken away, spoiled or left behind: it harms what it belongs to, and no more.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::time::Duration;

use polyqueue::{
    ConnectOptions, Dedup, Error, Message, Pattern, Purge, QueueName, QueueSpec, RoutingKey, Settled, Verdict,
};
use polyqueue_conformance::broker::{Broker, RedisBroker};
use polyqueue_redis::PROVIDER;
use support::{Bench, QUEUE, receive, settle};
use tokio::time::{Instant, sleep};

const LONG: u64 = 10_000;
const SECOND: Duration = Duration::from_secs(1);
const OTHER: QueueName = QueueName::from_static("other");

fn texts(range: std::ops::Range<usize>) -> Vec<Message> {
    range.map(|n| Message::new(n.to_string())).collect()
}

/// A claim fails after it has read some: for the dead letters, where one of them belongs, are no stream.
#[tokio::test]
async fn an_error_in_a_claim_loses_nothing_that_it_has_read() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    bench.queue.publish(&QUEUE.into(), texts(0..30)).await.unwrap();
    bench.command::<String>(&["XADD", "polyqueue:{q}:s:5", "*", "data", "worn", "a", "99"]).await;
    bench.command::<()>(&["SET", "polyqueue:{q}:dlq", "no stream"]).await;
    assert!(consumer.receive(100, SECOND).await.is_err());
    bench.command::<u64>(&["DEL", "polyqueue:{q}:dlq"]).await;
    let held = consumer.receive(100, 5 * SECOND).await.unwrap();
    assert_eq!(held.len(), 30);
    assert!(held.iter().enumerate().all(|(n, held)| held.message.payload() == &n.to_string()));
}

#[tokio::test]
async fn whoever_lost_its_lease_to_another_is_told_so_and_what_nobody_holds_is_found() {
    let bench = Bench::start().await;
    let (consumer, other) = (bench.consumer().await, bench.consumer().await);
    bench.publish(Message::new("held")).await;
    let lost = receive(&*consumer, LONG).await.unwrap();
    bench.command::<u64>(&["DEL", "polyqueue:{q}:l"]).await;
    assert_eq!(settle(&*consumer, &lost, Verdict::Ack).await, Settled::LeaseLost);
    let held = receive(&*other, LONG).await.unwrap();
    assert_eq!(held.attempt, 1);
    let again = consumer.settle(&[(lost.receipt.clone(), Verdict::reject("no"))]).await.unwrap();
    assert_eq!(*again[0].as_ref().unwrap(), Settled::LeaseLost);
    assert_eq!(settle(&*other, &held, Verdict::Ack).await, Settled::Applied);
    assert_eq!(settle(&*other, &held, Verdict::Ack).await, Settled::AlreadySettled);
}

#[tokio::test]
async fn an_entry_that_nobody_can_read_harms_its_own_queue_only() {
    let bench = Bench::start_with(QueueSpec::new(QUEUE).bind(Pattern::new("t").unwrap())).await;
    for text in ["{\"name\":", "\u{1}", "{\"name\":\"bad\",\"bindings\":7}"] {
        bench.command::<u64>(&["HSET", "polyqueue:catalogue", &format!("bad {text}"), text]).await;
    }
    bench.command::<()>(&["SET", "polyqueue:ver", "epoch.another"]).await;
    let topic = RoutingKey::new("t").unwrap();
    bench.send(topic, Message::new("")).await.unwrap();
    assert_eq!(bench.stats().await.ready, 1);
    assert_eq!(bench.queue.queues().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_queue_of_a_later_version_is_refused_by_name() {
    let bench = Bench::start().await;
    bench.queue.declare(&QueueSpec::new(OTHER)).await.unwrap();
    let consumer = bench.consumer().await;
    bench.command::<u64>(&["HSET", "polyqueue:{q}:q", "v", "2"]).await;
    let refused = |error: &Error| {
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("polyqueue:{q}:q is of version 2"), "{error}");
    };
    refused(&bench.send(QUEUE, Message::new("")).await.unwrap_err());
    refused(&bench.send(QUEUE, Message::new("").with_delay(SECOND)).await.unwrap_err());
    refused(&consumer.receive(1, SECOND).await.unwrap_err());
    refused(&bench.queue.stats(&QUEUE).await.unwrap_err());
    refused(&bench.queue.purge(&QUEUE, Purge::Waiting).await.unwrap_err());
    refused(&bench.queue.declare(&QueueSpec::new(QUEUE).bind("a".parse().unwrap())).await.unwrap_err());
    bench.send(OTHER, Message::new("")).await.unwrap();
}

#[tokio::test]
async fn ended_keys_are_freed_as_fast_as_a_waiting_consumer_can() {
    let bench = Bench::start_with(QueueSpec::new(QUEUE).dedup(Dedup::window(SECOND / 5))).await;
    let keyed = |n: usize| Message::new("").with_dedup_key(n.to_string()).with_ttl(SECOND / 10);
    for _ in 0..5 {
        let batch = (0..1000).map(&keyed).collect();
        bench.queue.publish(&QUEUE.into(), batch).await.unwrap();
    }
    bench.command::<u64>(&["ZCARD", "polyqueue:{q}:k"]).await;
    let now: (u64, u64) = bench.command(&["TIME"]).await;
    let mut words = vec!["ZADD".to_owned(), "polyqueue:{q}:k".into()];
    for n in 0..5000 {
        words.extend([(now.0 * 1000 - 1).to_string(), format!("old {n}")]);
    }
    bench.command::<u64>(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let consumer = bench.consumer().await;
    let began = Instant::now();
    receive(&*consumer, 2_000).await;
    assert!(began.elapsed() < 10 * SECOND);
    assert_eq!(bench.command::<u64>(&["ZCARD", "polyqueue:{q}:k"]).await, 0);
}

/// The clock of the server was an hour ahead once.
#[tokio::test]
async fn a_purge_takes_what_an_earlier_clock_calls_the_future() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    bench.publish(Message::new("held")).await;
    receive(&*consumer, LONG).await.unwrap();
    let now: (u64, u64) = bench.command(&["TIME"]).await;
    for n in 0..4 {
        let id = format!("{}-{n}", (now.0 + 3600) * 1000);
        bench.command::<String>(&["XADD", "polyqueue:{q}:s:5", &id, "data", "x"]).await;
    }
    assert_eq!(bench.queue.purge(&QUEUE, Purge::Waiting).await.unwrap(), 4);
    let stats = bench.stats().await;
    assert_eq!((stats.ready, stats.in_flight), (0, Some(1)));
}

#[tokio::test]
async fn a_purge_of_many_beside_one_in_flight_ends_in_time() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    for _ in 0..60 {
        bench.queue.publish(&QUEUE.into(), texts(0..1000)).await.unwrap();
    }
    receive(&*consumer, LONG).await.unwrap();
    let hasty = bench.another(5 * SECOND).await;
    assert_eq!(hasty.purge(&QUEUE, Purge::Waiting).await.unwrap(), 59_999);
    sleep(SECOND / 100).await;
    assert_eq!(bench.stats().await.in_flight, Some(1));
}

/// All of it is there again for whoever used it, and only for him.
#[tokio::test]
async fn an_emptied_server_heals_with_the_next_use() {
    let bound = QueueSpec::new(QUEUE).bind(Pattern::new("t").unwrap()).dedup(Dedup::window(SECOND));
    let bench = Bench::start_with(bound).await;
    bench.queue.declare(&QueueSpec::new(OTHER)).await.unwrap();
    let worker = bench.another(10 * SECOND).await;
    let consumer = worker.subscribe(&polyqueue::Subscription::new(QUEUE)).await.unwrap();
    for _ in 0..2 {
        bench.command::<()>(&["FLUSHALL"]).await;
        bench.command::<()>(&["SCRIPT", "FLUSH"]).await;
        bench.send(QUEUE, Message::new("1").with_dedup_key("k")).await.unwrap();
        bench.send(OTHER, Message::new("")).await.unwrap();
        assert_eq!(receive(&*consumer, LONG).await.unwrap().message.payload(), "1");
        bench.command::<()>(&["FLUSHALL"]).await;
        bench.send(RoutingKey::new("t").unwrap(), Message::new("2")).await.unwrap();
        let held = receive(&*consumer, LONG).await.unwrap();
        assert_eq!(settle(&*consumer, &held, Verdict::Ack).await, Settled::Applied);
        bench.command::<()>(&["FLUSHALL"]).await;
        assert!(receive(&*consumer, 100).await.is_none());
        assert_eq!(worker.queues().await.unwrap().len(), 1, "what it reads, as it was");
    }
    bench.queue.delete(&QUEUE).await.unwrap();
    assert!(matches!(bench.send(QUEUE, Message::new("")).await, Err(Error::NotFound(_))));
    assert!(matches!(consumer.receive(1, SECOND).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn a_restart_without_data_stops_nobody() {
    let broker = RedisBroker::start_with(&["--appendonly", "no"]).await.unwrap();
    let queue = PROVIDER.connect(ConnectOptions::new(broker.url())).await.unwrap();
    queue.declare(&QueueSpec::new(QUEUE)).await.unwrap();
    let consumer = queue.subscribe(&polyqueue::Subscription::new(QUEUE)).await.unwrap();
    let restarted = async {
        sleep(SECOND / 5).await;
        broker.kill9().await.unwrap();
        broker.start_again().await.unwrap();
        let end = Instant::now() + 10 * SECOND;
        loop {
            let answers = queue.publish(&QUEUE.into(), vec![Message::new("")]).await;
            match answers.map(|mut answers| answers.remove(0)) {
                Ok(Ok(_)) => return,
                failed => assert!(Instant::now() < end, "{failed:?}"),
            }
            sleep(SECOND / 10).await;
        }
    };
    let (delivery, ()) = tokio::join!(receive(&*consumer, 30_000), restarted);
    assert!(delivery.is_some());
}
