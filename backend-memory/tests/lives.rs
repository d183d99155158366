//! The lives of a message, as an application sees them, under a paused clock.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use polyqueue::{
    Admin, Consumer, DeadFilter, DeadReason, Delivery, Error, Message, Overflow, Page, Priority, Queue,
    QueueName, QueueSpec, Receipt, Settled, Subscription, Verdict,
};
use polyqueue_memory::MemoryQueue;
use tokio::time::Instant;

const QUEUE: QueueName = QueueName::from_static("q");
const SECOND: Duration = Duration::from_secs(1);

async fn queue() -> MemoryQueue {
    let queue = MemoryQueue::new();
    queue.declare(&QUEUE.into()).await.unwrap();
    queue
}

async fn publish(queue: &MemoryQueue, message: Message) {
    queue.publish(&QUEUE.into(), vec![message]).await.unwrap().remove(0).unwrap();
}

async fn consumer(queue: &MemoryQueue) -> Box<dyn Consumer> {
    queue.subscribe(&Subscription::new(QUEUE).lease(5 * SECOND)).await.unwrap()
}

async fn one(consumer: &dyn Consumer, wait: Duration) -> Delivery {
    let mut got = consumer.receive(1, wait).await.unwrap();
    assert_eq!(got.len(), 1);
    got.remove(0)
}

async fn settle(consumer: &dyn Consumer, receipt: &Receipt, verdict: Verdict) -> Settled {
    consumer.settle(&[(receipt.clone(), verdict)]).await.unwrap().remove(0).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_highest_priority_comes_first_and_the_oldest_within_it() {
    let queue = queue().await;
    for level in [5, 10, 1, 5, 10] {
        publish(&queue, Message::new(vec![level]).with_priority(Priority::new(level).unwrap())).await;
    }
    let consumer = consumer(&queue).await;
    let got = consumer.receive(10, Duration::ZERO).await.unwrap();
    let levels: Vec<u8> = got.iter().map(|delivery| delivery.message.priority().get()).collect();
    assert_eq!(levels, [10, 10, 5, 5, 1]);
    for delivery in &got {
        assert_eq!(settle(&*consumer, &delivery.receipt, Verdict::Ack).await, Settled::Applied);
        assert_eq!(settle(&*consumer, &delivery.receipt, Verdict::Ack).await, Settled::AlreadySettled);
    }
    let stats = queue.stats(&QUEUE).await.unwrap();
    assert_eq!((stats.ready, stats.in_flight, stats.counters.acked), (0, Some(0), 5));
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_wakes_a_blocked_receive_on_time() {
    let queue = queue().await;
    let consumer = consumer(&queue).await;
    let before = Instant::now();
    let blocked = consumer.receive(1, 60 * SECOND);
    let (got, ()) = tokio::join!(blocked, publish(&queue, Message::new("x").with_delay(3 * SECOND)));
    assert_eq!(got.unwrap().len(), 1);
    let late = before.elapsed() - 3 * SECOND;
    assert!(late <= Duration::from_millis(1), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn failures_end_among_the_dead_and_redrive_begins_anew() {
    let queue = queue().await;
    publish(&queue, Message::new("x").with_header("k", "v")).await;
    let consumer = consumer(&queue).await;
    for attempt in 1..=4 {
        let delivery = one(&*consumer, 60 * SECOND).await;
        assert_eq!((delivery.attempt, delivery.message.retries()), (attempt, attempt - 1));
        let answer =
            settle(&*consumer, &delivery.receipt, Verdict::retry(SECOND, format!("no {attempt}"))).await;
        assert_eq!(answer, if attempt < 4 { Settled::Applied } else { Settled::Died });
    }
    let page = queue.dead_letters(&QUEUE, &DeadFilter::all(), Page::first(10)).await.unwrap();
    let letter = &page.dead_letters[0];
    assert_eq!((letter.reason, &*letter.error, letter.attempts), (DeadReason::MaxAttempts, "no 4", 4));
    assert_eq!(queue.redrive(&QUEUE, &[letter.id.clone(), letter.id.clone()]).await.unwrap(), [true, false]);
    let again = one(&*consumer, Duration::ZERO).await;
    assert_eq!((again.attempt, again.message.headers()["k"].as_str()), (1, "v"));
    settle(&*consumer, &again.receipt, Verdict::reject("enough")).await;
    let page = queue.dead_letters(&QUEUE, &DeadFilter::all(), Page::first(10)).await.unwrap();
    assert_eq!((page.dead_letters[0].total_attempts, page.dead_letters[0].redriven), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_lease_brings_a_message_back_and_fences_its_holder() {
    let queue = queue().await;
    publish(&queue, Message::new("x")).await;
    let (first, second) = (consumer(&queue).await, consumer(&queue).await);
    let held = one(&*first, Duration::ZERO).await;
    let taken = Instant::now();
    let again = one(&*second, 60 * SECOND).await;
    assert_eq!(again.attempt, 2);
    assert!(taken.elapsed() >= 5 * SECOND && taken.elapsed() <= 5 * SECOND + Duration::from_millis(1));
    assert_eq!(settle(&*first, &held.receipt, Verdict::Ack).await, Settled::LeaseLost);
    assert_eq!(settle(&*first, &again.receipt, Verdict::Ack).await, Settled::LeaseLost);
    assert_eq!(settle(&*second, &again.receipt, Verdict::Ack).await, Settled::Applied);
}

/// Who publishes remembers the queues that he published to: one of the same name is another one.
#[tokio::test(start_paused = true)]
async fn a_queue_that_is_declared_anew_is_published_to_as_what_it_is_now() {
    let queue = queue().await;
    for _ in 0..40 {
        for text in ["first", "second"] {
            publish(&queue, Message::new(text)).await;
        }
        queue.delete(&QUEUE).await.unwrap();
        let gone = queue.publish(&QUEUE.into(), vec![Message::new("gone")]).await;
        assert!(matches!(gone, Err(Error::NotFound(_))), "{gone:?}");
        queue.declare(&QueueSpec::new(QUEUE).bound(1, Overflow::Reject)).await.unwrap();
        publish(&queue, Message::new("first")).await;
        let full = queue.publish(&QUEUE.into(), vec![Message::new("second")]).await.unwrap().remove(0);
        assert!(matches!(full, Err(Error::Full { .. })), "{full:?}");
        queue.delete(&QUEUE).await.unwrap();
        queue.declare(&QUEUE.into()).await.unwrap();
        assert_eq!(queue.stats(&QUEUE).await.unwrap().ready, 0);
    }
}
