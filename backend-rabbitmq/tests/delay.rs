//! Delayed messages on a real broker: never early, not lost, and in time, whatever becomes of those who move them.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use polyqueue::{ConnectOptions, Message, Queue, QueueExt, QueueName, Subscription, Verdict};
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;

const Q: QueueName = QueueName::from_static("q");

async fn open(broker: &RabbitBroker) -> Arc<dyn Queue> {
    PROVIDER.connect(ConnectOptions::new(broker.url())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_waits_are_kept() {
    let broker = RabbitBroker::start().await.unwrap();
    let queue = open(&broker).await;
    queue.declare(&Q.into()).await.unwrap();
    let consumer = queue.subscribe(&Subscription::new(Q)).await.unwrap();
    for millis in [10, 100, 300, 1_000, 2_500, 700, 50, 20] {
        let wait = Duration::from_millis(millis);
        let began = Instant::now();
        queue.publish_one(Q, Message::new("later").with_delay(wait)).await.unwrap();
        let published = began.elapsed();
        let came = consumer.receive(1, Duration::from_secs(10)).await.unwrap().remove(0);
        println!("{millis} ms: published in {published:?}, came after {:?}", began.elapsed());
        assert!(began.elapsed() >= wait);
        consumer.settle(&[(came.receipt, Verdict::Ack)]).await.unwrap();
    }
    queue.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mover_that_is_closed_leaves_no_copies() {
    let broker = RabbitBroker::start().await.unwrap();
    let queue = open(&broker).await;
    queue.declare(&Q.into()).await.unwrap();
    queue.close().await.unwrap();
    for nth in 0..3 {
        let mover = open(&broker).await;
        let queue = open(&broker).await;
        mover.publish_one(Q, Message::new("first").with_delay(Duration::from_millis(1))).await.unwrap();
        let batch = (0..2_000).map(|_| Message::new("").with_delay(Duration::from_millis(700))).collect();
        let began = Instant::now();
        queue.publish(&Q.into(), batch).await.unwrap();
        tokio::time::sleep(Duration::from_millis(720 + 90 * nth).saturating_sub(began.elapsed())).await;
        mover.close().await.unwrap();
        let consumer = queue.subscribe(&Subscription::new(Q).prefetch(100)).await.unwrap();
        let mut came = std::collections::HashMap::<String, usize>::new();
        loop {
            let deliveries = consumer.receive(100, Duration::from_millis(1_500)).await.unwrap();
            if deliveries.is_empty() {
                break;
            }
            let mut verdicts = Vec::new();
            for delivery in deliveries {
                *came.entry(delivery.message.id().to_string()).or_default() += 1;
                verdicts.push((delivery.receipt, Verdict::Ack));
            }
            consumer.settle(&verdicts).await.unwrap();
        }
        queue.close().await.unwrap();
        let twice = came.values().filter(|times| **times > 1).count();
        println!("round {nth}: {} came, {twice} twice", came.len());
        assert_eq!((came.len(), twice), (2_001, 0));
    }
}
