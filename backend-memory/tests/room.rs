//! Publishes that wait for room, under a paused clock.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Admin, Certainty, ConnectOptions, Destination, Error, Message, Overflow, Pattern, Published, Purge,
    Queue, QueueName, QueueSpec, Result, RoutingKey, Subscription,
};
use polyqueue_memory::MemoryQueue;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const A: QueueName = QueueName::from_static("a");
const B: QueueName = QueueName::from_static("b");
const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const DEADLINE: Duration = Duration::from_secs(10);

type Answers = Result<Vec<Result<Published>>>;

fn topic() -> Destination {
    RoutingKey::new("x").unwrap().into()
}

/// Two queues with room for one message each, bound to one topic.
async fn narrow() -> Arc<MemoryQueue> {
    let queue = Arc::new(MemoryQueue::new());
    for name in [A, B] {
        let spec = QueueSpec::new(name).bind(Pattern::new("#").unwrap()).bound(1, Overflow::Block);
        queue.declare(&spec).await.unwrap();
    }
    queue
}

fn publishing(queue: &Arc<MemoryQueue>, to: Destination, batch: Vec<Message>) -> JoinHandle<Answers> {
    let queue = queue.clone();
    tokio::spawn(async move { queue.publish(&to, batch).await })
}

async fn publish_one(queue: &MemoryQueue, to: impl Into<Destination>, text: &'static str) {
    queue.publish(&to.into(), vec![Message::new(text)]).await.unwrap().remove(0).unwrap();
}

async fn take(queue: &MemoryQueue, name: QueueName) -> Vec<String> {
    let consumer = queue.subscribe(&Subscription::new(name)).await.unwrap();
    let got = consumer.receive(9, Duration::ZERO).await.unwrap();
    got.iter().map(|delivery| String::from_utf8(delivery.message.payload().to_vec()).unwrap()).collect()
}

/// Lets every task run until it waits.
async fn settle_down() {
    sleep(MS).await;
}

fn texts(texts: &[&'static str]) -> Vec<Message> {
    texts.iter().map(|&text| Message::new(text)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_goes_in_one_by_one_as_room_comes() {
    let queue = narrow().await;
    let before = Instant::now();
    let publish = publishing(&queue, A.into(), texts(&["x", "y", "z"]));
    for text in ["x", "y", "z"] {
        settle_down().await;
        assert_eq!(take(&queue, A).await, [text]);
    }
    assert!(publish.await.unwrap().unwrap().iter().all(Result::is_ok));
    assert!(before.elapsed() < SECOND, "it was woken");
    assert_eq!(queue.stats(&A).await.unwrap().counters.published, 3);
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_what_found_no_room_is_definitely_not_stored() {
    let queue = narrow().await;
    let before = Instant::now();
    let delayed = Message::new("delayed").with_delay(SECOND);
    let batch = vec![delayed, Message::new("x"), Message::new("y"), Message::new("z")];
    let answers = queue.publish(&A.into(), batch).await.unwrap();
    assert!(before.elapsed() >= DEADLINE && before.elapsed() <= DEADLINE + MS);
    assert!(answers[..2].iter().all(Result::is_ok));
    for answer in &answers[2..] {
        let Err(error @ Error::Timeout { after: DEADLINE, .. }) = answer else { panic!("{answer:?}") };
        assert_eq!(error.certainty(), Certainty::Definite);
    }
    let stats = queue.stats(&A).await.unwrap();
    assert_eq!((stats.ready, stats.counters.published, stats.counters.refused), (2, 2, 2));
    assert_eq!(take(&queue, A).await, ["x", "delayed"]);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_the_handles() {
    let options = ConnectOptions::new("memory://short-deadline").deadline(2 * SECOND);
    let queue = MemoryQueue::connect(&options).unwrap();
    queue.declare(&QueueSpec::new(A).bound(1, Overflow::Block)).await.unwrap();
    let before = Instant::now();
    let answers = queue.publish(&A.into(), texts(&["x", "y"])).await.unwrap();
    assert!(answers[0].is_ok() && answers[1].is_err());
    assert!(before.elapsed() >= 2 * SECOND && before.elapsed() <= 2 * SECOND + MS);
}

#[tokio::test(start_paused = true)]
async fn a_message_to_a_topic_waits_for_room_in_all_its_queues() {
    let queue = narrow().await;
    publish_one(&queue, A, "a").await;
    publish_one(&queue, B, "b").await;
    let publish = publishing(&queue, topic(), texts(&["x"]));
    settle_down().await;
    assert_eq!(take(&queue, A).await, ["a"]);
    settle_down().await;
    assert!(take(&queue, A).await.is_empty(), "there is no room in b yet");
    publish_one(&queue, A, "another").await;
    assert_eq!(take(&queue, B).await, ["b"]);
    settle_down().await;
    assert!(take(&queue, B).await.is_empty(), "and none in a again");
    assert_eq!(take(&queue, A).await, ["another"]);
    publish.await.unwrap().unwrap().remove(0).unwrap();
    assert_eq!((take(&queue, A).await, take(&queue, B).await), (vec!["x".into()], vec!["x".into()]));
}

#[tokio::test(start_paused = true)]
async fn what_expires_makes_room_by_itself() {
    let queue = narrow().await;
    let mortal = Message::new("mortal").with_ttl(3 * SECOND);
    queue.publish(&A.into(), vec![mortal]).await.unwrap();
    let before = Instant::now();
    publish_one(&queue, A, "x").await;
    assert!(before.elapsed() >= 3 * SECOND && before.elapsed() <= 3 * SECOND + MS);
    assert_eq!((take(&queue, A).await, queue.stats(&A).await.unwrap().dead), (vec!["x".into()], 1));
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_get_in_in_the_end() {
    let queue = narrow().await;
    let waiting: Vec<_> = (0..20)
        .map(|nth| publishing(&queue, if nth % 3 == 0 { topic() } else { A.into() }, texts(&["x"])))
        .collect();
    settle_down().await;
    // One is dropped, one has room and nobody to tell: neither takes the room from the others.
    waiting[4].abort();
    let mut taken = 0;
    while taken < 19 {
        taken += take(&queue, A).await.len();
        take(&queue, B).await;
        settle_down().await;
    }
    for (nth, publish) in waiting.into_iter().enumerate() {
        assert_eq!(publish.await.is_ok_and(|answers| answers.unwrap()[0].is_ok()), nth != 4);
    }
}

#[tokio::test(start_paused = true)]
async fn close_deletion_and_unbinding_end_the_wait_truthfully() {
    for (to, what) in [(A.into(), "close"), (A.into(), "delete"), (topic(), "unbind")] {
        let queue = narrow().await;
        let publish = publishing(&queue, to, texts(&["x", "y"]));
        settle_down().await;
        match what {
            "close" => queue.close().await.unwrap(),
            "delete" => queue.delete(&A).await.unwrap(),
            _ => {
                for name in [A, B] {
                    queue.unbind(&name, &Pattern::new("#").unwrap()).await.unwrap();
                    queue.purge(&name, Purge::Waiting).await.unwrap();
                }
            }
        }
        let answers = publish.await.unwrap().unwrap();
        assert!(answers[0].is_ok(), "{what}: the first was stored");
        match (what, answers[1].as_ref().unwrap_err()) {
            ("close", Error::Closed) | ("delete" | "unbind", Error::NotFound(_)) => {}
            (_, other) => panic!("{what}: {other:?}"),
        }
    }
    let queue = narrow().await;
    publish_one(&queue, A, "full").await;
    let publish = publishing(&queue, A.into(), texts(&["x"]));
    settle_down().await;
    queue.delete(&A).await.unwrap();
    assert!(
        matches!(publish.await.unwrap(), Err(Error::NotFound(_))),
        "nothing was stored: the call says so"
    );
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_is_dropped_stores_nothing_more() {
    let queue = narrow().await;
    let publish = publishing(&queue, A.into(), texts(&["x", "y"]));
    settle_down().await;
    publish.abort();
    settle_down().await;
    assert_eq!(take(&queue, A).await, ["x"]);
    settle_down().await;
    assert!(take(&queue, A).await.is_empty());
}

#[tokio::test]
async fn the_oldest_makes_room_and_the_handle_counts_it() {
    let queue = MemoryQueue::new();
    queue.declare(&QueueSpec::new(A).bound(2, Overflow::DropOldest).dead_max_len(2)).await.unwrap();
    queue.publish(&A.into(), texts(&["a", "b", "c", "d", "e"])).await.unwrap();
    let stats = queue.stats(&A).await.unwrap();
    assert_eq!((stats.ready, stats.dead), (2, 2));
    assert_eq!((stats.counters.published, stats.counters.overflowed, stats.counters.dropped), (5, 3, 1));
    assert_eq!(take(&queue, A).await, ["d", "e"]);
}
