//! A private server for a test, a handle to it, and a plain client beside it.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    ConnectOptions, Consumer, Delivery, Message, Queue, QueueName, QueueSpec, QueueStats, Settled,
    Subscription, Verdict,
};
use polyqueue_conformance::broker::{Broker, RedisBroker};
use polyqueue_redis::PROVIDER;

pub(crate) const QUEUE: QueueName = QueueName::from_static("q");

pub(crate) struct Bench {
    pub(crate) broker: RedisBroker,
    pub(crate) queue: Arc<dyn Queue>,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let broker = RedisBroker::start().await.unwrap();
        let queue = PROVIDER.connect(ConnectOptions::new(broker.url())).await.unwrap();
        queue.declare(&QueueSpec::new(QUEUE)).await.unwrap();
        Self { broker, queue }
    }

    pub(crate) async fn consumer(&self) -> Box<dyn Consumer> {
        self.subscribe(Subscription::new(QUEUE)).await
    }

    pub(crate) async fn subscribe(&self, subscription: Subscription) -> Box<dyn Consumer> {
        self.queue.subscribe(&subscription).await.unwrap()
    }

    pub(crate) async fn publish(&self, message: Message) {
        let answers = self.queue.publish(&QUEUE.into(), vec![message]).await.unwrap();
        answers.into_iter().for_each(|answer| drop(answer.unwrap()));
    }

    pub(crate) async fn stats(&self) -> QueueStats {
        self.queue.stats(&QUEUE).await.unwrap()
    }

    /// A plain client's command.
    pub(crate) async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.broker.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.unwrap()
    }
}

pub(crate) async fn receive(consumer: &dyn Consumer, wait_ms: u64) -> Option<Delivery> {
    consumer.receive(1, Duration::from_millis(wait_ms)).await.unwrap().pop()
}

pub(crate) async fn settle(consumer: &dyn Consumer, delivery: &Delivery, verdict: Verdict) -> Settled {
    let answers = consumer.settle(&[(delivery.receipt.clone(), verdict)]).await.unwrap();
    *answers[0].as_ref().unwrap()
}
