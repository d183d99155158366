//! Topics: what other handles change counts at once, and half a fan-out is never called a whole one.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::time::Duration;

use polyqueue::{
    Certainty, Dedup, Destination, Error, Message, MessageId, Pattern, Priority, QueueName, QueueSpec,
    RoutingKey, Subscription,
};
use support::{Bench, QUEUE, receive};
use tokio::time::Instant;

const OTHER: QueueName = QueueName::from_static("other");
const SECOND: Duration = Duration::from_secs(1);

fn bound(name: QueueName, pattern: &str) -> QueueSpec {
    QueueSpec::new(name).bind(Pattern::new(pattern).unwrap())
}

fn key(text: &str) -> RoutingKey {
    RoutingKey::new(text).unwrap()
}

async fn ready(bench: &Bench, queue: &QueueName) -> u64 {
    bench.queue.stats(queue).await.unwrap().ready
}

#[tokio::test]
async fn what_another_handle_binds_counts_at_once() {
    let bench = Bench::start_with(bound(QUEUE, "a.#")).await;
    let other = bench.another(10 * SECOND).await;
    bench.send(key("a.b"), Message::new("1")).await.unwrap();
    for round in 1..=20 {
        other.declare(&bound(OTHER, "a.*")).await.unwrap();
        bench.send(key("a.b"), Message::new("both")).await.unwrap();
        assert_eq!(ready(&bench, &OTHER).await, round);
        other.unbind(&OTHER, &Pattern::new("a.*").unwrap()).await.unwrap();
        bench.send(key("a.b"), Message::new("one")).await.unwrap();
        assert_eq!(ready(&bench, &OTHER).await, round);
    }
    assert_eq!(ready(&bench, &QUEUE).await, 41);
    other.delete(&QUEUE).await.unwrap();
    let error = bench.send(key("a.b"), Message::new("none")).await.unwrap_err();
    assert!(matches!(&error, Error::NotFound(Destination::Topic(_))), "{error}");
    other.delete(&OTHER).await.unwrap();
    assert_eq!(bench.command::<u64>(&["DBSIZE"]).await, 0);
    other.declare(&bound(OTHER, "a.b")).await.unwrap();
    bench.send(key("a.b"), Message::new("again")).await.unwrap();
    assert_eq!(ready(&bench, &OTHER).await, 1);
}

#[tokio::test]
async fn a_declaration_that_races_another_loses_nothing() {
    let bench = Bench::start().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..30 {
        let queue = bench.queue.clone();
        tasks.spawn(async move { queue.declare(&bound(QUEUE, &format!("k.{n}"))).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(bench.queue.queues().await.unwrap()[0].bindings.len(), 30);
    let error = bench.queue.declare(&QueueSpec::new(QUEUE).dead_max_len(3)).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
}

#[tokio::test]
async fn a_batch_reaches_many_queues_whole_and_in_order() {
    let bench = Bench::start().await;
    let names: Vec<QueueName> = (0..30).map(|n| QueueName::new(format!("w{n}")).unwrap()).collect();
    for name in &names {
        bench.queue.declare(&bound(name.clone(), "wide")).await.unwrap();
    }
    let batch = (0..150).map(|n| Message::new(n.to_string()).with_priority(Priority::LOWEST)).collect();
    let answers = bench.queue.publish(&key("wide").into(), batch).await.unwrap();
    assert_eq!(answers.into_iter().filter(Result::is_ok).count(), 150);
    for name in &names {
        let consumer = bench.subscribe(Subscription::new(name.clone())).await;
        let got = consumer.receive(200, Duration::ZERO).await.unwrap();
        assert!(got.iter().enumerate().all(|(n, got)| *got.message.payload() == n.to_string()), "{name}");
        assert_eq!(got.len(), 150);
        assert_eq!(bench.queue.stats(name).await.unwrap().counters.published, 150);
    }
}

#[tokio::test]
async fn an_error_is_definite_only_when_no_copy_was_written() {
    let bench = Bench::start_with(bound(QUEUE, "t")).await;
    bench.queue.declare(&bound(OTHER, "t")).await.unwrap();
    // By name `other` comes first.
    for (broken, certainty) in [("q", Certainty::Unknown), ("other", Certainty::Definite)] {
        bench.command::<()>(&["SET", &format!("polyqueue:{{{broken}}}:s:5"), "no stream"]).await;
        let error = bench.send(key("t"), Message::new("x")).await.unwrap_err();
        assert_eq!(error.certainty(), certainty, "{broken}: {error}");
        assert!(error.to_string().contains("WRONGTYPE"), "{error}");
    }
}

#[tokio::test]
async fn a_queue_that_half_exists_ends_no_publish_late() {
    let bench = Bench::start_with(bound(QUEUE, "t")).await;
    let hasty = bench.another(SECOND).await;
    bench.command::<u64>(&["DEL", "polyqueue:{q}:q", "polyqueue:{q}:s:5"]).await;
    // Nothing can be stored there, so that it cannot be made whole either.
    bench.command::<()>(&["SET", "polyqueue:{q}:s:5", "no stream"]).await;
    let start = Instant::now();
    let error =
        hasty.publish(&key("t").into(), vec![Message::new("x")]).await.unwrap().pop().unwrap().unwrap_err();
    assert!(matches!(error, Error::Backend { certainty: Certainty::Definite, .. }), "{error}");
    assert!(start.elapsed() < 5 * SECOND);
    bench.command::<u64>(&["DEL", "polyqueue:{q}:s:5"]).await;
    bench.send(key("t"), Message::new("x")).await.unwrap();
}

#[tokio::test]
async fn each_queue_looks_at_its_own_keys() {
    let bench = Bench::start_with(bound(QUEUE, "t").dedup(Dedup::window(60 * SECOND))).await;
    bench.send(QUEUE, Message::new("first").with_dedup_key("k")).await.unwrap();
    let keyed = || Message::new("x").with_dedup_key("k");
    let twice = bench.send(key("t"), keyed()).await.unwrap();
    assert!(twice.duplicate_of.is_some());
    bench.queue.declare(&bound(OTHER, "t")).await.unwrap();
    let stored = bench.send(key("t"), keyed().with_id(MessageId::new("m").unwrap())).await.unwrap();
    assert_eq!(stored.duplicate_of, None);
    assert_eq!((ready(&bench, &QUEUE).await, ready(&bench, &OTHER).await), (1, 1));
    assert_eq!(bench.stats().await.counters.duplicates, 2);
    let consumer = bench.subscribe(Subscription::new(OTHER)).await;
    let copy = receive(&*consumer, 5000).await.unwrap();
    assert_eq!((copy.message.id().as_str(), copy.message.dedup_key()), ("m", Some("k")));
    bench.queue.delete(&QUEUE).await.unwrap();
    let error = bench.send(key("t"), keyed()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Invalid { field, index: Some(0), .. } if field == "dedup key"),
        "{error}"
    );
}

#[tokio::test]
async fn copies_that_do_not_fit_are_refused_as_a_whole() {
    let bench = Bench::start().await;
    for n in 0..40 {
        bench.queue.declare(&bound(QueueName::new(format!("w{n}")).unwrap(), "wide")).await.unwrap();
    }
    bench.command::<()>(&["CONFIG", "SET", "maxmemory", "20mb"]).await;
    let error = bench.send(key("wide"), Message::new(vec![7; 1024 * 1024])).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { certainty: polyqueue::Certainty::Definite, .. }), "{error}");
    assert!(error.to_string().contains("the copies have"), "{error}");
    assert_eq!(ready(&bench, &QueueName::from_static("w0")).await, 0);
    bench.send(key("wide"), Message::new(vec![7; 100_000])).await.unwrap();
    assert_eq!(ready(&bench, &QueueName::from_static("w0")).await, 1);
}
