//! What other hands take away, all of it or a part, is there again soon: with what it was bound to, and without a restart of anything.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Dedup, Error, Message, Overflow, Pattern, Queue, QueueName, QueueSpec, RoutingKey, Subscription,
};
use support::{Bench, QUEUE, receive};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_secs(10);
const OTHER: QueueName = QueueName::from_static("other");

fn bound(queue: QueueName) -> QueueSpec {
    QueueSpec::new(queue).bind(Pattern::new("e.#").unwrap())
}

fn topic() -> RoutingKey {
    RoutingKey::new("e.x").unwrap()
}

async fn publish(queue: &Arc<dyn Queue>, text: &'static str) -> Result<(), Error> {
    queue.publish(&topic().into(), vec![Message::new(text)]).await?.pop().unwrap().map(drop)
}

/// Until it is so, or for a while.
async fn soon(what: &str, within: Duration, mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + within;
    while !is_so().await {
        assert!(Instant::now() < end, "{what}");
        sleep(SECOND / 20).await;
    }
}

async fn ready(queue: &Arc<dyn Queue>, name: &QueueName) -> u64 {
    queue.stats(name).await.unwrap().ready
}

#[tokio::test]
async fn a_topic_reaches_all_that_its_handle_declared_after_a_wipe() {
    let bench = Bench::start_with(bound(QUEUE)).await;
    bench.queue.declare(&bound(OTHER)).await.unwrap();
    publish(&bench.queue, "before").await.unwrap();
    for is_used in [true, false] {
        bench.command::<()>(&["FLUSHALL"]).await;
        if is_used {
            // It alone is noticed, and so is the loss.
            bench.publish(Message::new("")).await;
        }
        publish(&bench.queue, "after").await.unwrap();
        let reached: u64 = bench.command(&["XLEN", "polyqueue:{other}:s:5"]).await;
        assert_eq!(reached, 1, "used: {is_used}");
    }
}

#[tokio::test]
async fn whoever_uses_nothing_brings_back_what_it_declared_within_five_seconds() {
    let bench = Bench::start_with(bound(QUEUE)).await;
    let idle = bench.another(DEADLINE).await;
    idle.declare(&bound(OTHER)).await.unwrap();
    bench.command::<()>(&["FLUSHALL"]).await;
    publish(&bench.queue, "1").await.unwrap();
    sleep(5 * SECOND).await;
    publish(&bench.queue, "2").await.unwrap();
    assert_eq!(ready(&bench.queue, &OTHER).await, 1);
}

#[tokio::test]
async fn bindings_outlive_whoever_declares_without_them_first() {
    let bench = Bench::start_with(bound(QUEUE)).await;
    let other = bench.another(DEADLINE).await;
    for is_other in [true, false] {
        bench.command::<()>(&["FLUSHALL"]).await;
        let first = if is_other { &other } else { &bench.queue };
        first.declare(&QueueSpec::new(QUEUE)).await.unwrap();
        publish(&bench.queue, "").await.unwrap();
        publish(&other, "").await.unwrap();
        assert_eq!(ready(&bench.queue, &QUEUE).await, 2, "by another: {is_other}");
    }
}

#[tokio::test]
async fn what_was_unbound_on_purpose_stays_so_after_a_wipe() {
    let bench = Bench::start_with(bound(QUEUE)).await;
    let pattern = Pattern::new("e.#").unwrap();
    let other = bench.another(DEADLINE).await;
    other.declare(&bound(QUEUE)).await.unwrap();
    other.unbind(&QUEUE, &pattern).await.unwrap();
    bench.command::<()>(&["FLUSHALL"]).await;
    bench.publish(Message::new("")).await;
    assert!(matches!(publish(&bench.queue, "").await, Err(Error::NotFound(_))));
    bench.queue.declare(&bound(QUEUE)).await.unwrap();
    bench.command::<()>(&["FLUSHALL"]).await;
    other.declare(&bound(QUEUE)).await.unwrap();
    other.unbind(&QUEUE, &pattern).await.unwrap();
    assert!(matches!(publish(&bench.queue, "").await, Err(Error::NotFound(_))), "unbound after the loss");
}

/// What other hands do to one queue: its keys and its entry in the catalogue.
const HANDS: &[&[&str]] = &[
    &["DEL", "polyqueue:{q}:q"],
    &["DEL", "polyqueue:catalogue"],
    &["HDEL", "polyqueue:catalogue", "q"],
    &["HSET", "polyqueue:catalogue", "q", "not json"],
    &["HSET", "polyqueue:{q}:q", "rules", "not json"],
    &["HSET", "polyqueue:{q}:q", "rules", "7"],
    &["HDEL", "polyqueue:{q}:q", "rules"],
    &["DEL", "polyqueue:ver"],
    &["DEL", "polyqueue:ver", "polyqueue:catalogue"],
];

fn with_rules() -> QueueSpec {
    bound(QUEUE).dedup(Dedup::window(SECOND)).bound(1_000, Overflow::Reject)
}

#[tokio::test]
async fn whatever_is_taken_of_one_queue_is_there_again() {
    let bench = Bench::start_with(with_rules()).await;
    let consumer = bench.consumer().await;
    publish(&bench.queue, "before").await.unwrap();
    receive(&*consumer, 1_000).await.unwrap();
    for hands in HANDS {
        bench.command::<i64>(hands).await;
        soon(&format!("{hands:?}"), DEADLINE, async || {
            let fresh = bench.another(DEADLINE).await;
            let seen = bench.queue.queues().await.unwrap_or_default();
            let rules: Option<String> = bench.command(&["HGET", "polyqueue:{q}:q", "rules"]).await;
            seen == [with_rules()]
                && rules.is_some_and(|rules| rules.contains("max_len"))
                && publish(&bench.queue, "").await.is_ok()
                && publish(&fresh, "").await.is_ok()
                && bench.send(QUEUE, Message::new("")).await.is_ok()
                && bench.queue.stats(&QUEUE).await.is_ok()
                && matches!(consumer.receive(10, SECOND).await, Ok(came) if !came.is_empty())
        })
        .await;
    }
}

/// The first that looks is each call in turn, by a handle that has declared nothing.
#[tokio::test]
async fn half_of_a_queue_is_made_whole_by_whoever_uses_it() {
    let bench = Bench::start_with(with_rules()).await;
    bench.queue.close().await.unwrap();
    let (page, all) = (polyqueue::Page::first(1), polyqueue::DeadFilter::all());
    for number in 0..6 {
        for hands in [HANDS[0], HANDS[4]] {
            bench.command::<i64>(hands).await;
            let user = bench.another(DEADLINE).await;
            let answer = match number {
                0 => user.stats(&QUEUE).await.map(drop),
                1 => user.purge(&QUEUE, polyqueue::Purge::Waiting).await.map(drop),
                2 => user.dead_letters(&QUEUE, &all, page.clone()).await.map(drop),
                3 => user.redrive(&QUEUE, &[]).await.map(drop),
                4 => user
                    .subscribe(&Subscription::new(QUEUE))
                    .await
                    .unwrap()
                    .receive(1, SECOND / 2)
                    .await
                    .map(drop),
                _ => publish(&user, "").await,
            };
            answer.unwrap_or_else(|error| panic!("{number} after {hands:?}: {error}"));
        }
    }
}

/// The control: who deletes takes all of it away, and nobody brings it back.
#[tokio::test]
async fn what_is_deleted_is_brought_back_by_nobody() {
    let bench = Bench::start_with(bound(QUEUE)).await;
    bench.queue.declare(&bound(OTHER)).await.unwrap();
    let consumer = bench.consumer().await;
    let other = bench.another(DEADLINE).await;
    other.delete(&QUEUE).await.unwrap();
    other.delete(&OTHER).await.unwrap();
    assert!(matches!(consumer.receive(1, SECOND).await, Err(Error::NotFound(_))));
    assert!(matches!(publish(&bench.queue, "").await, Err(Error::NotFound(_))));
    sleep(5 * SECOND).await;
    assert_eq!(bench.queue.queues().await.unwrap(), []);
    assert_eq!(bench.command::<Vec<String>>(&["KEYS", "*"]).await, Vec::<String>::new());
}

const LAST: &str = "18446744073709551615-18446744073709551615";

/// Read, and so worked on, or not; with messages before it, or not.
#[tokio::test]
async fn the_last_id_of_a_stream_stops_no_publish_and_nothing_that_is_due() {
    for (before, is_read) in [(0, false), (3, false), (0, true), (3, true)] {
        let bench = Bench::start().await;
        let consumer = bench.consumer().await;
        for _ in 0..before {
            bench.publish(Message::new("before")).await;
        }
        bench.publish(Message::new("later").with_delay(SECOND / 5)).await;
        bench.command::<String>(&["XADD", "polyqueue:{q}:s:5", LAST, "data", "x"]).await;
        let mut texts = Vec::new();
        if is_read {
            for delivery in consumer.receive(10, SECOND).await.unwrap() {
                texts.push(String::from_utf8(delivery.message.payload().to_vec()).unwrap());
                support::settle(&*consumer, &delivery, polyqueue::Verdict::Ack).await;
            }
        }
        for message in [Message::new("after"), Message::new("timed").with_ttl(60 * SECOND)] {
            bench.publish(message).await;
        }
        while let Some(delivery) = receive(&*consumer, 2_500).await {
            texts.push(String::from_utf8(delivery.message.payload().to_vec()).unwrap());
            support::settle(&*consumer, &delivery, polyqueue::Verdict::Ack).await;
        }
        texts.sort();
        let mut all = vec!["after", "before", "before", "before", "later", "timed", "x"];
        all.drain(1..4 - before);
        assert_eq!(texts, all, "read: {is_read}");
        bench.stats().await;
    }
}

#[tokio::test]
async fn one_that_cannot_be_made_ready_stops_nothing_and_comes_later() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    let high = polyqueue::Priority::new(9).unwrap();
    bench.publish(Message::new("later").with_delay(SECOND / 2).with_priority(high)).await;
    let stream = "polyqueue:{q}:s:9";
    bench.command::<u64>(&["DEL", stream]).await;
    bench.command::<u64>(&["DEL", stream]).await;
    bench.command::<String>(&["XADD", stream, LAST, "data", "held"]).await;
    // Somebody works on the last entry, so that the stream takes none.
    let held = receive(&*consumer, 1_000).await.unwrap();
    sleep(SECOND * 3 / 5).await;
    bench.publish(Message::new("ready")).await;
    assert_eq!(receive(&*consumer, 1_000).await.unwrap().message.payload(), "ready");
    assert_eq!(bench.stats().await.delayed, Some(1));
    bench.queue.purge(&QUEUE, polyqueue::Purge::Dead).await.unwrap();
    support::settle(&*consumer, &held, polyqueue::Verdict::Ack).await;
    assert_eq!(receive(&*consumer, 5_000).await.unwrap().message.payload(), "later");
}

#[tokio::test]
async fn what_is_no_set_where_ours_belongs_is_set_aside() {
    for key in [":d", ":w", ":l", ":x"] {
        let bench = Bench::start().await;
        let consumer = bench.consumer().await;
        bench.publish(Message::new("1").with_delay(SECOND / 10)).await;
        let key = format!("polyqueue:{{q}}{key}");
        bench.command::<()>(&["SET", &key, "foreign"]).await;
        let mut events = bench.queue.events();
        bench.publish(Message::new("2")).await;
        for _ in 0..2 {
            let held = receive(&*consumer, 6_000).await.unwrap_or_else(|| panic!("{key}"));
            support::settle(&*consumer, &held, polyqueue::Verdict::Ack).await;
        }
        bench.stats().await;
        let told = events.next().await.unwrap();
        assert!(
            matches!(&told, polyqueue::Event::SetAside { detail, .. } if detail.contains(&key)),
            "{told:?}"
        );
        assert_eq!(bench.command::<String>(&["GET", &format!("{key}:aside")]).await, "foreign");
    }
}
