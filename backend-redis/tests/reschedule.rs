//! Rescheduling: only what waits for its time can be moved or taken away, and who waits for it learns of it.

mod support;

use std::time::Duration;

use polyqueue::{Error, Message, QueueName, Reschedule, Verdict};
use support::{Bench, QUEUE, receive, settle};
use tokio::time::Instant;

const LONG: u64 = 10_000;
const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_message_that_is_moved_up_wakes_who_waits() {
    let bench = Bench::start().await;
    let consumer = bench.consumer().await;
    let delayed = Message::new("x").with_delay(HOUR);
    let id = delayed.id().clone();
    bench.publish(delayed).await;
    let waits =
        tokio::spawn(async move { (receive(&*consumer, 60_000).await.unwrap(), Instant::now(), consumer) });
    while bench.command::<u64>(&["ZCARD", "polyqueue:{q}:w"]).await < 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let moved = Instant::now();
    assert!(bench.queue.reschedule(&QUEUE, &id, Reschedule::After(SOON)).await.unwrap());
    let (delivery, at, consumer) = waits.await.unwrap();
    assert!(at - moved >= SOON && at - moved < Duration::from_secs(3), "{:?}", at - moved);
    assert_eq!((delivery.message.id(), delivery.attempt), (&id, 1));
    assert!(!bench.queue.reschedule(&QUEUE, &id, Reschedule::Cancel).await.unwrap(), "in flight");

    settle(&*consumer, &delivery, Verdict::retry(HOUR, "once")).await;
    assert!(bench.queue.reschedule(&QUEUE, &id, Reschedule::After(Duration::ZERO)).await.unwrap());
    let again = receive(&*consumer, LONG).await.unwrap();
    assert_eq!(again.attempt, 2);
    settle(&*consumer, &again, Verdict::Release { after: HOUR }).await;
    assert!(bench.queue.reschedule(&QUEUE, &id, Reschedule::Cancel).await.unwrap());
    assert!(!bench.queue.reschedule(&QUEUE, &id, Reschedule::Cancel).await.unwrap());
    let stats = bench.stats().await;
    assert_eq!((stats.ready, stats.delayed, stats.in_flight, stats.dead), (0, Some(0), Some(0), 0));
    for key in ["b", "d", "i"] {
        assert_eq!(bench.command::<u64>(&["EXISTS", &format!("polyqueue:{{q}}:{key}")]).await, 0, "{key}");
    }
}

#[tokio::test]
async fn nobody_is_found_where_nobody_waits() {
    let bench = Bench::start().await;
    let ready = Message::new("x");
    let id = ready.id().clone();
    bench.publish(ready).await;
    assert!(!bench.queue.reschedule(&QUEUE, &id, Reschedule::After(SOON)).await.unwrap());
    let nowhere = QueueName::from_static("nowhere");
    let error = bench.queue.reschedule(&nowhere, &id, Reschedule::Cancel).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)));
    let late = Reschedule::After(366 * 24 * HOUR);
    assert!(matches!(bench.queue.reschedule(&QUEUE, &id, late).await, Err(Error::Invalid { .. })));
}
