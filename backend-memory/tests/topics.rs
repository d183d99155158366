//! Topics: one copy for each queue that is bound, in all of them or in none.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Admin, Counters, Dedup, Destination, Error, Message, Overflow, Pattern, Published, Queue, QueueName,
    QueueSpec, Result, RoutingKey, Settled, Subscription, Verdict,
};
use polyqueue_memory::MemoryQueue;

const A: QueueName = QueueName::from_static("a");
const B: QueueName = QueueName::from_static("b");
const SECOND: Duration = Duration::from_secs(1);

fn pattern(pattern: &str) -> Pattern {
    Pattern::new(pattern).unwrap()
}

fn key(key: &str) -> Destination {
    RoutingKey::new(key).unwrap().into()
}

async fn declare(queue: &MemoryQueue, spec: QueueSpec) {
    queue.declare(&spec).await.unwrap();
}

async fn bound(queue: &MemoryQueue, name: QueueName, to: &str) {
    declare(queue, QueueSpec::new(name).bind(pattern(to))).await;
}

async fn publish(queue: &MemoryQueue, to: &str, message: Message) -> Result<Published> {
    queue.publish(&key(to), vec![message]).await?.remove(0)
}

async fn texts(queue: &MemoryQueue, name: QueueName) -> Vec<String> {
    let consumer = queue.subscribe(&Subscription::new(name)).await.unwrap();
    let got = consumer.receive(99, Duration::ZERO).await.unwrap();
    got.iter().map(|delivery| String::from_utf8(delivery.message.payload().to_vec()).unwrap()).collect()
}

async fn ready(queue: &MemoryQueue, name: &QueueName) -> u64 {
    queue.stats(name).await.unwrap().ready
}

async fn counters(queue: &MemoryQueue, name: &QueueName) -> Counters {
    queue.stats(name).await.unwrap().counters
}

#[tokio::test(start_paused = true)]
async fn each_queue_gets_one_copy_with_a_life_of_its_own() {
    let queue = MemoryQueue::new();
    declare(&queue, QueueSpec::new(A).bind(pattern("order.*")).bind(pattern("#"))).await;
    bound(&queue, B, "order.paid").await;
    let message = Message::new("x").with_delay(SECOND).with_ttl(9 * SECOND);
    let id = publish(&queue, "order.paid", message).await.unwrap().id;
    for name in [&A, &B] {
        assert_eq!((ready(&queue, name).await, counters(&queue, name).await.published), (0, 1));
    }
    let mut got = Vec::new();
    for name in [A, B] {
        let consumer = queue.subscribe(&Subscription::new(name)).await.unwrap();
        let delivery = consumer.receive(9, 2 * SECOND).await.unwrap();
        assert_eq!(delivery.len(), 1, "one, however many patterns match");
        assert_eq!((&delivery[0].message.id(), delivery[0].attempt), (&&id, 1));
        got.push((consumer, delivery));
    }
    for ((consumer, delivery), verdict) in got.iter().zip([Verdict::retry(20 * SECOND, ""), Verdict::Ack]) {
        let receipt = delivery[0].receipt.clone();
        let answers = consumer.settle(&[(receipt, verdict)]).await.unwrap();
        assert!(matches!(answers[0], Ok(Settled::Applied)));
    }
    assert_eq!((&got[0].1[0].queue, &got[1].1[0].queue), (&A, &B));
    tokio::time::advance(9 * SECOND).await;
    let (a, b) = (queue.stats(&A).await.unwrap(), queue.stats(&B).await.unwrap());
    assert_eq!((a.dead, b.dead), (1, 0), "one expired while it waited for its retry, the other is acked");
}

#[tokio::test(start_paused = true)]
async fn routes_are_those_of_the_publish_also_for_a_delayed_message() {
    let queue = MemoryQueue::new();
    bound(&queue, A, "x").await;
    publish(&queue, "x", Message::new("early").with_delay(SECOND)).await.unwrap();
    queue.unbind(&A, &pattern("x")).await.unwrap();
    bound(&queue, B, "x").await;
    publish(&queue, "x", Message::new("late")).await.unwrap();
    tokio::time::advance(SECOND).await;
    assert_eq!((texts(&queue, A).await, texts(&queue, B).await), (vec!["early".into()], vec!["late".into()]));
}

#[tokio::test]
async fn a_topic_that_nobody_is_bound_to_is_not_found() {
    let queue = MemoryQueue::new();
    bound(&queue, A, "a.*").await;
    let nobody = |answer: Result<Published>| {
        assert!(matches!(answer, Err(Error::NotFound(Destination::Topic(_)))), "{answer:?}");
    };
    nobody(publish(&queue, "b", Message::new("")).await);
    nobody(publish(&queue, "a", Message::new("")).await);
    publish(&queue, "a.b", Message::new("")).await.unwrap();
    queue.unbind(&A, &pattern("never bound")).await.unwrap();
    queue.unbind(&A, &pattern("a.*")).await.unwrap();
    nobody(publish(&queue, "a.b", Message::new("")).await);
    assert!(matches!(queue.unbind(&B, &pattern("a.*")).await, Err(Error::NotFound(_))));
    bound(&queue, A, "#").await;
    queue.delete(&A).await.unwrap();
    nobody(publish(&queue, "a.b", Message::new("")).await);
    assert!(queue.publish(&key("a.b"), Vec::new()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_declaration_adds_bindings_and_changes_nothing_else() {
    let queue = MemoryQueue::new();
    let spec = QueueSpec::new(A).bind(pattern("x")).bound(3, Overflow::Reject).dead_max_len(7);
    declare(&queue, spec.clone()).await;
    declare(&queue, spec.clone().bind(pattern("y"))).await;
    declare(&queue, spec.clone()).await;
    let other = spec.clone().bind(pattern("z")).bound(4, Overflow::Reject);
    let error = queue.declare(&other).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid { field, .. } if field == "bound"), "{error}");
    let error = queue.declare(&QueueSpec::new(B).bound(0, Overflow::Reject)).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid { field, .. } if field == "bound"), "{error}");
    assert_eq!(queue.queues().await.unwrap(), [spec.bind(pattern("y"))]);
}

#[tokio::test]
async fn a_queue_that_is_full_refuses_the_whole_message() {
    let queue = MemoryQueue::new();
    bound(&queue, A, "#").await;
    declare(&queue, QueueSpec::new(B).bind(pattern("#")).bound(2, Overflow::Reject)).await;
    let batch = (0..4).map(|nth| Message::new(nth.to_string())).collect();
    let answers = queue.publish(&key("x"), batch).await.unwrap();
    assert!(answers[..2].iter().all(Result::is_ok));
    for answer in &answers[2..] {
        assert!(matches!(answer, Err(Error::Full { what, limit: 2 }) if what == "queue b"), "{answer:?}");
    }
    assert_eq!((ready(&queue, &A).await, ready(&queue, &B).await), (2, 2));
    let (a, b) = (counters(&queue, &A).await, counters(&queue, &B).await);
    assert_eq!((a.published, a.refused, b.published, b.refused), (2, 0, 2, 2));
    texts(&queue, B).await;
    publish(&queue, "x", Message::new("again")).await.unwrap();
}

#[tokio::test]
async fn a_duplicate_is_one_where_the_key_is_kept_and_known() {
    let queue = MemoryQueue::new();
    let keeps = Dedup::window(60 * SECOND);
    bound(&queue, A, "x.#").await;
    let keyed = || Message::new("").with_dedup_key("k");
    let error = publish(&queue, "x", keyed()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Invalid { field, index: Some(0), .. } if field == "dedup key"),
        "{error}"
    );
    declare(&queue, QueueSpec::new(B).bind(pattern("#")).dedup(keeps)).await;
    let first = publish(&queue, "only.b", keyed()).await.unwrap();
    assert_eq!(publish(&queue, "x", keyed()).await.unwrap().duplicate_of, None, "stored in a");
    let again = publish(&queue, "only.b", keyed()).await.unwrap();
    assert_eq!(again.duplicate_of, Some(first.id), "nothing was stored");
    assert_ne!(Some(again.id), again.duplicate_of);
    assert_eq!((ready(&queue, &A).await, ready(&queue, &B).await), (1, 1));
    let (a, b) = (counters(&queue, &A).await, counters(&queue, &B).await);
    assert_eq!((a.published, a.duplicates, b.published, b.duplicates), (1, 0, 3, 2));
}

#[tokio::test]
async fn of_two_with_one_key_in_a_batch_the_second_is_the_duplicate() {
    let queue = MemoryQueue::new();
    declare(&queue, QueueSpec::new(A).dedup(Dedup::window(SECOND))).await;
    let batch = ["k", "k", "other"].map(|key| Message::new(key).with_dedup_key(key)).to_vec();
    let answers = queue.publish(&A.into(), batch).await.unwrap();
    let of: Vec<_> = answers.iter().map(|answer| answer.as_ref().unwrap().duplicate_of.clone()).collect();
    assert_eq!(of, [None, Some(answers[0].as_ref().unwrap().id.clone()), None]);
    bound(&queue, B, "b").await;
    let batch = vec![Message::new("plain"), Message::new("").with_dedup_key("k")];
    let error = queue.publish(&B.into(), batch).await.unwrap_err();
    assert!(
        matches!(&error, Error::Invalid { field, index: Some(1), .. } if field == "dedup key"),
        "{error}"
    );
    assert_eq!(ready(&queue, &B).await, 0, "nothing was stored");
}

#[tokio::test]
async fn each_copy_takes_room_and_a_message_that_has_too_little_is_stored_nowhere() {
    let queue = MemoryQueue::with_max_bytes(4_000);
    for name in [A, B] {
        bound(&queue, name, "#").await;
    }
    let message = || Message::new(vec![0; 1_000]);
    publish(&queue, "x", message()).await.unwrap();
    let full = publish(&queue, "x", message()).await.unwrap_err();
    assert!(matches!(full, Error::Full { limit: 4_000, .. }), "{full}");
    assert_eq!((ready(&queue, &A).await, ready(&queue, &B).await), (1, 1));
    queue.purge(&B, polyqueue::Purge::Waiting).await.unwrap();
    publish(&queue, "x", message()).await.unwrap();
}

/// No copy goes by a stale route, and no fan-out is half done, while bindings and bounds change all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fan_out_is_all_or_nothing_while_routes_change() {
    const MESSAGES: usize = 2_000;
    let queue = Arc::new(MemoryQueue::new());
    let flapping = QueueName::from_static("c");
    bound(&queue, A, "x").await;
    declare(&queue, QueueSpec::new(B).bind(pattern("x")).bound(10, Overflow::Reject)).await;
    let publisher = tokio::spawn({
        let queue = queue.clone();
        async move {
            let mut stored = 0;
            for nth in 0..MESSAGES {
                match publish(&queue, "x", Message::new(nth.to_string())).await {
                    Ok(_) => stored += 1,
                    Err(error) => assert!(matches!(error, Error::Full { .. }), "{error}"),
                }
            }
            stored
        }
    });
    let mut drained = 0;
    while !publisher.is_finished() {
        bound(&queue, flapping.clone(), "x").await;
        tokio::task::yield_now().await;
        queue.unbind(&flapping, &pattern("x")).await.unwrap();
        let then = ready(&queue, &flapping).await;
        drained += queue.purge(&B, polyqueue::Purge::Waiting).await.unwrap();
        assert_eq!(ready(&queue, &flapping).await, then, "nothing comes by a binding that is gone");
        queue.delete(&flapping).await.unwrap();
    }
    let stored: u64 = publisher.await.unwrap();
    assert_eq!(ready(&queue, &A).await, stored);
    assert_eq!(ready(&queue, &B).await + drained, stored);
}

/// Of more queues than are held together, one that may refuse the message decides for all.
#[tokio::test(start_paused = true)]
async fn a_crowd_of_queues_gets_it_in_all_or_in_none() {
    let queue = MemoryQueue::new();
    let crowd: Vec<_> = (0..100).map(|nth| QueueName::new(format!("q{nth}")).unwrap()).collect();
    for name in &crowd {
        bound(&queue, name.clone(), "x").await;
    }
    declare(&queue, QueueSpec::new(A).bind(pattern("x")).bound(1, Overflow::Reject)).await;
    declare(&queue, QueueSpec::new(B).bind(pattern("x")).dedup(Dedup::window(60 * SECOND))).await;
    let keyed = || Message::new("1").with_dedup_key("k");
    assert!(publish(&queue, "x", keyed()).await.unwrap().duplicate_of.is_none());
    assert!(matches!(publish(&queue, "x", Message::new("2")).await, Err(Error::Full { .. })));
    for name in &crowd {
        assert_eq!(ready(&queue, name).await, 1);
    }
    texts(&queue, A).await;
    publish(&queue, "x", keyed()).await.unwrap();
    assert_eq!((ready(&queue, &A).await, ready(&queue, &B).await), (1, 1), "B knows the key");
    queue.unbind(&crowd[50], &pattern("x")).await.unwrap();
    texts(&queue, A).await;
    let batch = vec![Message::new("3"), Message::new("4").with_delay(60 * SECOND), Message::new("5")];
    let answers = queue.publish(&key("x"), batch).await.unwrap();
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false]);
    for (nth, name) in crowd.iter().enumerate() {
        let stats = queue.stats(name).await.unwrap();
        let expected = if nth == 50 { (2, 0) } else { (3, 1) };
        assert_eq!((stats.ready, stats.delayed.unwrap()), expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_queues_that_may_refuse_it_get_it_in_all_or_in_none() {
    let queue = MemoryQueue::new();
    let crowd: Vec<_> = (0..1_200).map(|nth| QueueName::new(format!("q{nth}")).unwrap()).collect();
    for name in &crowd {
        declare(&queue, QueueSpec::new(name.clone()).bind(pattern("x")).bound(2, Overflow::Reject)).await;
    }
    let batch = (0..3).map(|_| Message::new("x")).collect();
    let answers = queue.publish(&key("x"), batch).await.unwrap();
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false]);
    for name in &crowd {
        assert_eq!(ready(&queue, name).await, 2);
    }
}
