//! Bounds and retention: who is turned away, who waits and is woken, what makes room, what is dropped and counted.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::time::Duration;

use polyqueue::{
    Certainty, DeadReason, Error, Message, Overflow, Pattern, Priority, QueueName, QueueSpec, RoutingKey,
    Subscription, Verdict,
};
use support::{Bench, QUEUE, receive, settle};
use tokio::time::Instant;

const LONG: u64 = 10_000;
const OTHER: QueueName = QueueName::from_static("other");
const SECOND: Duration = Duration::from_secs(1);

fn spec(max: u64, overflow: Overflow) -> QueueSpec {
    QueueSpec::new(QUEUE).bound(max, overflow)
}

fn texts(range: std::ops::Range<usize>) -> Vec<Message> {
    range.map(|n| Message::new(n.to_string())).collect()
}

#[tokio::test]
async fn a_full_queue_turns_publishes_away_and_nothing_else() {
    let bench = Bench::start_with(spec(3, Overflow::Reject)).await;
    let answers = bench.queue.publish(&QUEUE.into(), texts(0..5)).await.unwrap();
    let full: Vec<bool> = answers.iter().map(|a| matches!(a, Err(Error::Full { limit: 3, .. }))).collect();
    assert_eq!(full, [false, false, false, true, true]);
    bench.publish(Message::new("delayed").with_delay(SECOND)).await;
    let consumer = bench.consumer().await;
    let held = receive(&*consumer, LONG).await.unwrap();
    bench.publish(Message::new("there is room for what is in flight")).await;
    settle(&*consumer, &held, Verdict::Release { after: Duration::ZERO }).await;
    tokio::time::sleep(SECOND).await;
    assert!(bench.send(QUEUE, Message::new("no")).await.is_err());
    let stats = bench.stats().await;
    assert_eq!((stats.ready, stats.counters.refused), (5, 3));
}

#[tokio::test]
async fn the_oldest_of_the_lowest_priority_makes_room() {
    let bench = Bench::start_with(spec(3, Overflow::DropOldest).dead_max_len(3)).await;
    let consumer = bench.consumer().await;
    bench.publish(Message::new("held").with_priority(Priority::LOWEST)).await;
    receive(&*consumer, LONG).await.unwrap();
    let of = |text: &str, p: u8| Message::new(text.to_owned()).with_priority(Priority::new(p).unwrap());
    for message in
        [of("a", 5), of("b", 2), of("c", 2), of("d", 5), of("e", 1), of("f", 9), of("g", 9), of("h", 9)]
    {
        bench.publish(message).await;
    }
    let overflow = DeadReason::Overflow;
    assert_eq!(
        bench.dead().await,
        [("c".into(), overflow, 0), ("a".into(), overflow, 0), ("d".into(), overflow, 0)]
    );
    let stats = bench.stats().await;
    assert_eq!((stats.ready, stats.counters.overflowed, stats.counters.dropped), (3, 5, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_waits_and_is_woken_by_who_makes_room() {
    let bench = Bench::start_with(spec(2, Overflow::Block)).await;
    let consumer = bench.consumer().await;
    let queue = bench.queue.clone();
    let batch = tokio::spawn(async move { queue.publish(&QUEUE.into(), texts(0..10)).await.unwrap() });
    let mut latest = Duration::ZERO;
    for n in 0..10 {
        // Until it waits for the rest.
        while n < 8 && bench.command::<u64>(&["ZCARD", "polyqueue:{q}:p"]).await < 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let freed = Instant::now();
        assert_eq!(receive(&*consumer, LONG).await.unwrap().message.payload(), &n.to_string());
        while n < 8 && bench.stats().await.ready < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        latest = latest.max(freed.elapsed());
    }
    assert!(batch.await.unwrap().iter().all(Result::is_ok));
    assert!(latest < 3 * SECOND, "{latest:?}");
    eprintln!("room to stored: at most {latest:?}");
}

#[tokio::test]
async fn a_publisher_that_waits_in_vain_stored_nothing_and_held_up_nobody() {
    let bench = Bench::start_with(spec(1, Overflow::Block)).await;
    let hasty = bench.another(SECOND).await;
    bench.queue.declare(&OTHER.into()).await.unwrap();
    let to = QUEUE.into();
    let (answers, ()) = tokio::join!(hasty.publish(&to, texts(0..3)), async {
        for _ in 0..20 {
            hasty.publish(&OTHER.into(), vec![Message::new("flows")]).await.unwrap();
            hasty.publish(&QUEUE.into(), vec![Message::new("later").with_delay(60 * SECOND)]).await.unwrap();
        }
    });
    let answers = answers.unwrap();
    assert!(answers[0].is_ok());
    for late in &answers[1..] {
        let error = late.as_ref().unwrap_err();
        assert!(matches!(error, Error::Timeout { certainty: Certainty::Definite, .. }), "{error}");
    }
    assert_eq!(bench.stats().await.ready, 1);
    assert_eq!(hasty.stats(&QUEUE).await.unwrap().counters.refused, 2);

    let queue = bench.queue.clone();
    let waits =
        tokio::spawn(async move { queue.publish(&QUEUE.into(), texts(0..1)).await.unwrap().pop().unwrap() });
    while bench.command::<u64>(&["ZCARD", "polyqueue:{q}:p"]).await < 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let closing = Instant::now();
    bench.queue.close().await.unwrap();
    assert!(matches!(waits.await.unwrap(), Err(Error::Closed)));
    assert!(closing.elapsed() < 5 * SECOND);
}

#[tokio::test]
async fn to_a_topic_one_full_queue_stops_the_whole_message() {
    let bind = |spec: QueueSpec| spec.bind(Pattern::new("t").unwrap());
    let bench = Bench::start_with(bind(spec(1, Overflow::Block))).await;
    bench.queue.declare(&bind(QueueSpec::new(OTHER))).await.unwrap();
    let hasty = bench.another(Duration::from_millis(300)).await;
    let topic = RoutingKey::new("t").unwrap();
    let answers = hasty.publish(&topic.clone().into(), texts(0..2)).await.unwrap();
    assert!(answers[0].is_ok() && matches!(&answers[1], Err(Error::Timeout { .. })), "{answers:?}");
    let ready = bench.queue.stats(&OTHER).await.unwrap().ready;
    assert_eq!((bench.stats().await.ready, ready), (1, 1));
    bench.queue.delete(&QUEUE).await.unwrap();
    bench.queue.declare(&bind(spec(1, Overflow::Reject))).await.unwrap();
    let answers = bench.queue.publish(&topic.into(), texts(0..2)).await.unwrap();
    assert!(answers[0].is_ok() && matches!(&answers[1], Err(Error::Full { .. })), "{answers:?}");
    assert_eq!(bench.queue.stats(&OTHER).await.unwrap().ready, 2);
}

#[tokio::test]
async fn dead_letters_beyond_what_is_kept_are_dropped_and_counted() {
    let bench = Bench::start_with(QueueSpec::new(QUEUE).dead_max_len(10).dead_max_age(SECOND)).await;
    let consumer = bench.subscribe(Subscription::new(QUEUE)).await;
    bench.queue.publish(&QUEUE.into(), texts(0..150)).await.unwrap();
    let held = consumer.receive(150, 5 * SECOND).await.unwrap();
    let verdicts: Vec<_> = held.iter().map(|held| (held.receipt.clone(), Verdict::reject("no"))).collect();
    consumer.settle(&verdicts).await.unwrap();
    let stats = bench.stats().await;
    assert_eq!((stats.dead, stats.counters.dropped), (10, 140));
    assert_eq!(bench.dead().await[0].0, "140");
    let ids = bench.dead_ids().await;
    tokio::time::sleep(SECOND + Duration::from_millis(50)).await;
    assert_eq!(bench.queue.redrive(&QUEUE, &ids[..1]).await.unwrap(), [false]);
    let stats = bench.stats().await;
    assert_eq!((stats.ready, stats.dead, stats.counters.dropped), (0, 0, 150));
}

#[tokio::test]
async fn many_that_wait_for_room_ask_ever_less() {
    let bench = Bench::start_with(spec(1, Overflow::Block)).await;
    bench.publish(Message::new("full")).await;
    let asked = async || {
        let info: String = bench.command(&["INFO", "commandstats"]).await;
        let count = |line: &str| line.split_once("calls=")?.1.split_once(',')?.0.parse::<u64>().ok();
        info.lines().filter(|line| line.starts_with("cmdstat_eval")).filter_map(count).sum::<u64>()
    };
    let hasty = bench.another(4 * SECOND).await;
    let before = asked().await;
    let to = QUEUE.into();
    let waits = (0..20).map(|_| hasty.publish(&to, texts(0..1)));
    let answers = futures_util::future::join_all(waits).await;
    assert!(answers.iter().all(|answer| matches!(answer.as_deref(), Ok([Err(Error::Timeout { .. })]))));
    let calls = asked().await - before;
    assert!(calls < 20 * 15, "{calls} calls");
}
