//! Dedup keys: whose a key is decides who frees it, and nothing of it outlives its queue.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::time::Duration;

use polyqueue::{Dedup, Error, Message, Published, Purge, QueueSpec, Reschedule, Settled, Verdict};
use support::{Bench, QUEUE, receive, settle};

const LONG: u64 = 10_000;
const HOUR: Duration = Duration::from_secs(3600);

async fn keyed(dedup: Dedup) -> Bench {
    Bench::start_with(QueueSpec::new(QUEUE).dedup(dedup)).await
}

async fn publish(bench: &Bench, key: &str) -> Published {
    bench.send(QUEUE, Message::new(key.to_owned()).with_dedup_key(key)).await.unwrap()
}

async fn keys(bench: &Bench) -> u64 {
    let ends = bench.command::<u64>(&["ZCARD", "polyqueue:{q}:k"]).await;
    assert_eq!(ends, bench.command::<u64>(&["HLEN", "polyqueue:{q}:u"]).await);
    ends
}

#[tokio::test]
async fn only_the_message_that_has_a_key_frees_it() {
    let bench = keyed(Dedup::until_ack(HOUR)).await;
    let consumer = bench.consumer().await;
    let first = publish(&bench, "k").await;
    assert_eq!(publish(&bench, "k").await.duplicate_of, Some(first.id));
    let dead = receive(&*consumer, LONG).await.unwrap();
    settle(&*consumer, &dead, Verdict::reject("no")).await;
    let second = publish(&bench, "k").await;
    assert_eq!(second.duplicate_of, None, "a dead letter has no key");
    assert_eq!(bench.queue.redrive(&QUEUE, &bench.dead_ids().await).await.unwrap(), [true]);
    let held = receive(&*consumer, LONG).await.unwrap();
    assert_eq!(*held.message.id(), second.id);
    let redriven = receive(&*consumer, LONG).await.unwrap();
    settle(&*consumer, &redriven, Verdict::Ack).await;
    assert_eq!(publish(&bench, "k").await.duplicate_of, Some(second.id.clone()));
    settle(&*consumer, &held, Verdict::retry(Duration::ZERO, "once")).await;
    let again = receive(&*consumer, LONG).await.unwrap();
    settle(&*consumer, &again, Verdict::Release { after: Duration::ZERO }).await;
    assert_eq!(publish(&bench, "k").await.duplicate_of, Some(second.id));
    let last = receive(&*consumer, LONG).await.unwrap();
    assert_eq!(settle(&*consumer, &last, Verdict::Ack).await, Settled::Applied);
    assert_eq!(keys(&bench).await, 0);
    assert_eq!(publish(&bench, "k").await.duplicate_of, None);
}

#[tokio::test]
async fn a_purge_frees_the_keys_of_what_it_removes() {
    let bench = keyed(Dedup::window(HOUR)).await;
    let consumer = bench.consumer().await;
    publish(&bench, "held").await;
    let held = receive(&*consumer, LONG).await.unwrap();
    publish(&bench, "acked").await;
    let acked = receive(&*consumer, LONG).await.unwrap();
    settle(&*consumer, &acked, Verdict::Ack).await;
    for n in 0..250 {
        publish(&bench, &format!("ready {n}")).await;
        let delayed = Message::new("").with_dedup_key(format!("delayed {n}")).with_delay(HOUR);
        bench.publish(delayed).await;
    }
    assert_eq!(bench.queue.purge(&QUEUE, Purge::Waiting).await.unwrap(), 500);
    assert_eq!(keys(&bench).await, 2);
    assert!(publish(&bench, "held").await.duplicate_of.is_some());
    assert!(publish(&bench, "acked").await.duplicate_of.is_some());
    assert_eq!(publish(&bench, "ready 7").await.duplicate_of, None);
    assert_eq!(settle(&*consumer, &held, Verdict::Ack).await, Settled::Applied);
    bench.queue.delete(&QUEUE).await.unwrap();
    assert_eq!(bench.command::<u64>(&["DBSIZE"]).await, 0);
}

#[tokio::test]
async fn a_key_ends_with_its_window_and_is_swept() {
    let window = Duration::from_millis(300);
    let bench = keyed(Dedup::window(window)).await;
    let start = tokio::time::Instant::now();
    let first = publish(&bench, "k").await;
    let again = loop {
        let before = tokio::time::Instant::now();
        let answer = publish(&bench, "k").await;
        match answer.duplicate_of {
            Some(of) => assert_eq!(of, first.id),
            None => break before,
        }
    };
    assert!(tokio::time::Instant::now() - start >= window);
    assert!(again - start < window + Duration::from_secs(2));
    for n in 0..120 {
        publish(&bench, &n.to_string()).await;
    }
    tokio::time::sleep(window + Duration::from_millis(20)).await;
    bench.stats().await;
    bench.stats().await;
    assert_eq!(keys(&bench).await, 0);
}

#[tokio::test]
async fn two_of_one_batch_and_a_hundred_racers_are_one_message() {
    let bench = keyed(Dedup::window(HOUR)).await;
    let batch = vec![Message::new("a").with_dedup_key("k"), Message::new("b").with_dedup_key("k")];
    let first = batch[0].id().clone();
    let answers = bench.queue.publish(&QUEUE.into(), batch).await.unwrap();
    assert_eq!(answers[1].as_ref().unwrap().duplicate_of, Some(first));
    let mut racers = tokio::task::JoinSet::new();
    for n in 0..100 {
        let queue =
            if n % 10 == 0 { bench.another(Duration::from_secs(10)).await } else { bench.queue.clone() };
        racers.spawn(async move {
            let racer = Message::new("r").with_dedup_key("race");
            queue.publish(&QUEUE.into(), vec![racer]).await.unwrap().pop().unwrap().unwrap()
        });
    }
    let answers = racers.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.duplicate_of.is_none()).count(), 1);
    let counters = bench.stats().await.counters;
    assert_eq!(bench.stats().await.ready, 2);
    assert!(counters.duplicates > 80, "{counters:?}");
}

#[tokio::test]
async fn a_cancelled_message_frees_its_key_and_a_plain_queue_has_none() {
    let bench = keyed(Dedup::window(HOUR)).await;
    let delayed = Message::new("x").with_dedup_key("k").with_delay(HOUR);
    let id = delayed.id().clone();
    bench.publish(delayed).await;
    assert!(publish(&bench, "k").await.duplicate_of.is_some());
    assert!(bench.queue.reschedule(&QUEUE, &id, Reschedule::Cancel).await.unwrap());
    assert_eq!(publish(&bench, "k").await.duplicate_of, None);

    bench.queue.delete(&QUEUE).await.unwrap();
    bench.queue.declare(&QUEUE.into()).await.unwrap();
    let keyed = || Message::new("x").with_dedup_key("k");
    // This handle still thinks that the queue keeps keys; the server knows better.
    let error = bench.send(QUEUE, keyed()).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid { field, .. } if field == "dedup key"), "{error}");
    let error = bench.queue.publish(&QUEUE.into(), vec![Message::new("plain"), keyed()]).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid { index: Some(1), .. }), "{error}");
    assert_eq!(bench.stats().await.ready, 0);
}
