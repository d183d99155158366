//! A private server for a test, a handle to it, and a plain client beside it.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    ConnectOptions, Consumer, DeadFilter, DeadId, DeadLetter, DeadReason, Delivery, Destination, Message,
    Page, Published, Queue, QueueName, QueueSpec, QueueStats, Result, Settled, Subscription, Verdict,
};
use polyqueue_conformance::broker::{Broker, RedisBroker};
use polyqueue_redis::PROVIDER;

pub(crate) const QUEUE: QueueName = QueueName::from_static("q");

pub(crate) struct Bench {
    pub(crate) broker: RedisBroker,
    pub(crate) queue: Arc<dyn Queue>,
}

#[allow(dead_code, reason = "each test program uses its part")]
impl Bench {
    pub(crate) async fn start() -> Self {
        Self::start_with(QueueSpec::new(QUEUE)).await
    }

    /// With the queue declared so.
    pub(crate) async fn start_with(spec: QueueSpec) -> Self {
        let broker = RedisBroker::start().await.unwrap();
        let queue = PROVIDER.connect(ConnectOptions::new(broker.url())).await.unwrap();
        queue.declare(&spec).await.unwrap();
        Self { broker, queue }
    }

    /// Another handle, whose calls end after this.
    pub(crate) async fn another(&self, deadline: Duration) -> Arc<dyn Queue> {
        PROVIDER.connect(ConnectOptions::new(self.broker.url()).deadline(deadline)).await.unwrap()
    }

    /// Publishes one message, and answers what became of it.
    pub(crate) async fn send(&self, to: impl Into<Destination>, message: Message) -> Result<Published> {
        self.queue.publish(&to.into(), vec![message]).await?.pop().unwrap()
    }

    /// All dead letters: the payload, the reason and the attempts of each.
    pub(crate) async fn dead(&self) -> Vec<(String, DeadReason, u32)> {
        let page = self.queue.dead_letters(&QUEUE, &DeadFilter::all(), Page::first(500)).await.unwrap();
        let text = |letter: &DeadLetter| {
            let message = letter.message().map(|message| message.payload().clone()).unwrap_or_default();
            (String::from_utf8(message.into()).unwrap(), letter.reason, letter.attempts)
        };
        page.dead_letters.iter().map(text).collect()
    }

    pub(crate) async fn dead_ids(&self) -> Vec<DeadId> {
        let page = self.queue.dead_letters(&QUEUE, &DeadFilter::all(), Page::first(500)).await.unwrap();
        page.dead_letters.into_iter().map(|letter| letter.id).collect()
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

#[allow(dead_code, reason = "each test program uses its part")]
pub(crate) async fn receive(consumer: &dyn Consumer, wait_ms: u64) -> Option<Delivery> {
    consumer.receive(1, Duration::from_millis(wait_ms)).await.unwrap().pop()
}

#[allow(dead_code, reason = "each test program uses its part")]
pub(crate) async fn settle(consumer: &dyn Consumer, delivery: &Delivery, verdict: Verdict) -> Settled {
    let answers = consumer.settle(&[(delivery.receipt.clone(), verdict)]).await.unwrap();
    *answers[0].as_ref().unwrap()
}
