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
