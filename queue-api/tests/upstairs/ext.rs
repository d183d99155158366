//! Sending one message, and dead letters by filter, on the memory broker.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    ConnectOptions, DeadFilter, DeadReason, Error, Failure, Job, Message, Page, Priority, Queue, QueueExt,
    QueueName, QueueSpec, RedriveOptions, Subscription, Verdict, Worker, connect,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::scripted::{Ping, Q, ping};

pub(crate) async fn memory(name: &str) -> Arc<dyn Queue> {
    let options = ConnectOptions::new(format!("memory://{name}"));
    let queue = connect(&[polyqueue_memory::PROVIDER], options).await.unwrap();
    queue.declare(&QueueSpec::new(Q)).await.unwrap();
    queue
}

/// A queue with dead letters whose errors are `error 0`, `error 1` …
async fn dead(name: &str, letters: u32) -> Arc<dyn Queue> {
    let queue = memory(name).await;
    let batch = (0..letters).map(ping).collect();
    queue.publish(&Q.into(), batch).await.unwrap();
    let consumer = queue.subscribe(&Subscription::new(Q)).await.unwrap();
    let mut held = Vec::new();
    while held.len() < letters as usize {
        held.extend(consumer.receive(letters as usize, Duration::ZERO).await.unwrap());
    }
    let verdicts: Vec<_> =
        (0..).zip(held).map(|(n, held)| (held.receipt, Verdict::reject(format!("error {n}")))).collect();
    consumer.settle(&verdicts).await.unwrap();
    queue
}

async fn counts(queue: &Arc<dyn Queue>) -> (u64, u64) {
    let stats = queue.stats(&Q).await.unwrap();
    (stats.ready, stats.dead)
}

#[tokio::test(start_paused = true)]
async fn one_message_is_sent() {
    let queue = memory("send").await;
    let typed = queue.send(Q, &Ping(7)).await.unwrap();
    let urgent = Message::new("raw").with_priority(Priority::HIGHEST);
    let put = queue.publish_one(&Q, urgent.clone()).await.unwrap();
    assert_eq!(&put.id, urgent.id());
    let consumer = queue.subscribe(&Subscription::new(Q)).await.unwrap();
    let got = consumer.receive(2, Duration::ZERO).await.unwrap();
    assert_eq!([got[0].message.id(), got[1].message.id()], [&put.id, &typed.id]);
    assert_eq!((got[1].message.kind(), got[1].message.decode::<Ping>().unwrap()), ("ping", Ping(7)));
    let nowhere = QueueName::from_static("nowhere");
    assert!(matches!(queue.send(&nowhere, &Ping(1)).await, Err(Error::NotFound(name)) if name == nowhere));
}

#[tokio::test(start_paused = true)]
async fn its_futures_can_be_spawned() {
    let queue = memory("spawn").await;
    let kept = queue.clone();
    let task = tokio::spawn(async move {
        kept.send(Q, &Ping(1)).await?;
        kept.redrive_where(&Q, &DeadFilter::all(), RedriveOptions::default()).await?;
        kept.discard_where(&Q, &DeadFilter::all(), None).await
    });
    assert_eq!(task.await.unwrap().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_matches_is_redriven() {
    let queue = dead("redrive", 25).await;
    let some = DeadFilter::all().error("error 1");
    let redriven = queue.redrive_where(&Q, &some, RedriveOptions::default().limit(3)).await.unwrap();
    assert_eq!((redriven, counts(&queue).await), (3, (3, 22)));
    let redriven = queue.redrive_where(&Q, &some, RedriveOptions::default()).await.unwrap();
    assert_eq!((redriven, counts(&queue).await), (8, (11, 14)));
    let none = DeadFilter::all().reason(DeadReason::MaxAttempts);
    assert_eq!(queue.redrive_where(&Q, &none, RedriveOptions::default()).await.unwrap(), 0);
    assert_eq!(queue.redrive_where(&Q, &DeadFilter::all(), RedriveOptions::default()).await.unwrap(), 14);
    assert_eq!(counts(&queue).await, (25, 0));
}

#[tokio::test(start_paused = true)]
async fn more_than_a_page_is_redriven() {
    let queue = dead("pages", 1201).await;
    assert_eq!(queue.redrive_where(&Q, &DeadFilter::all(), RedriveOptions::default()).await.unwrap(), 1201);
    assert_eq!(counts(&queue).await, (1201, 0));
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept() {
    let queue = dead("rate", 95).await;
    let start = Instant::now();
    let at_ten = RedriveOptions::default().per_second(10);
    assert_eq!(queue.redrive_where(&Q, &DeadFilter::all(), at_ten).await.unwrap(), 95);
    assert_eq!(start.elapsed().as_secs(), 9);
    let never = queue.redrive_where(&Q, &DeadFilter::all(), RedriveOptions::default().per_second(0)).await;
    assert!(matches!(never, Err(Error::Invalid { field, .. }) if field == "redrive rate"));
}

/// The letters die again, at once, while the others are redriven: each is redriven once, and it ends.
#[tokio::test(start_paused = true)]
async fn what_dies_again_meanwhile_is_left_alone() {
    let queue = dead("again", 30).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = Worker::new(queue.clone()).on(async |_: Job<Ping>| Err(Failure::fatal("still")));
    let running = tokio::spawn(worker.run([Q], stopped));
    let slowly = RedriveOptions::default().per_second(1);
    assert_eq!(queue.redrive_where(&Q, &DeadFilter::all(), slowly).await.unwrap(), 30);
    while queue.stats(&Q).await.unwrap().dead < 30 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(stop);
    assert_eq!(running.await.unwrap().unwrap().died, 30);
    let letters = queue.dead_letters(&Q, &DeadFilter::all(), Page::first(500)).await.unwrap().dead_letters;
    assert!(letters.iter().all(|letter| letter.redriven == 1), "{letters:#?}");
}

#[tokio::test(start_paused = true)]
async fn what_matches_is_discarded() {
    let queue = dead("discard", 250).await;
    assert_eq!(queue.discard_where(&Q, &DeadFilter::all().error("error 1"), Some(10)).await.unwrap(), 10);
    assert_eq!(queue.discard_where(&Q, &DeadFilter::all(), None).await.unwrap(), 240);
    assert_eq!(counts(&queue).await, (0, 0));
}
