//! How many channels a client opens, and that none of them wears out, on private nodes.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::join_all;
use polyqueue::{ConnectOptions, Error, Message, Queue, QueueName, Subscription};
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;
use tokio::time::sleep;

const THERE: QueueName = QueueName::from_static("there");
const TASKS: usize = 32;
const QUESTIONS: usize = 8_000;
const FIRST: usize = 5_000;
/// The most channels that a handle without consumers has at once.
const MOST: usize = 8;

async fn handle(node: &RabbitBroker) -> Arc<dyn Queue> {
    // Thousands at once take their time, on a busy machine more.
    let options = ConnectOptions::new(node.url()).namespace("channels").deadline(Duration::from_secs(30));
    PROVIDER.connect(options).await.unwrap()
}

async fn channels(node: &RabbitBroker) -> usize {
    node.eval("length(rabbit_channel:list())").await.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_and_first_publishes_wear_nothing_out() {
    let node = RabbitBroker::start().await.unwrap();
    let queue = handle(&node).await;
    queue.declare(&THERE.into()).await.unwrap();
    questions(&node, &queue).await;
    first_publishes(&node).await;
}

/// Two of five are answered "no", which closes a channel.
async fn questions(node: &RabbitBroker, queue: &Arc<dyn Queue>) {
    queue.publish(&(&THERE).into(), vec![Message::new("one")]).await.unwrap()[0].as_ref().unwrap();
    let (asked, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let ask = async |_| loop {
        let nth = asked.fetch_add(1, Relaxed);
        if nth >= QUESTIONS {
            return;
        }
        if nth % 5 < 2 {
            let name = QueueName::new(format!("gone-{}", nth % 7)).unwrap();
            let answer = queue.stats(&name).await;
            assert!(matches!(answer, Err(Error::NotFound(_))), "{answer:?}");
        } else {
            assert_eq!(queue.stats(&THERE).await.unwrap().ready, 1);
        }
        if nth.is_multiple_of(400) {
            most.fetch_max(channels(node).await, Relaxed);
        }
    };
    join_all((0..TASKS).map(ask)).await;
    assert!(most.load(Relaxed) <= MOST, "{most:?} channels");
}

async fn first_publishes(node: &RabbitBroker) {
    let queue = handle(node).await;
    let publish = async || {
        let stored = queue.publish(&(&THERE).into(), vec![Message::new("x")]).await;
        stored.unwrap()[0].as_ref().unwrap();
    };
    let counting = async {
        let mut most = 0;
        for _ in 0..20 {
            most = most.max(channels(node).await);
            sleep(Duration::from_millis(20)).await;
        }
        most
    };
    let (_, most) = tokio::join!(join_all((0..FIRST).map(|_| publish())), counting);
    assert!(most <= 2 * MOST, "{most} channels of two handles");
}

/// A broker that grants a connection few channels serves more consumers over more connections.
#[tokio::test(flavor = "multi_thread")]
async fn consumers_share_what_the_broker_grants() {
    let node = RabbitBroker::start().await.unwrap();
    node.eval("application:set_env(rabbit, channel_max, 16)").await.unwrap();
    let queue = handle(&node).await;
    let mut consumers = Vec::new();
    for nth in 0..40 {
        let name = QueueName::new(format!("q{nth}")).unwrap();
        queue.declare(&name.clone().into()).await.unwrap();
        queue.publish(&(&name).into(), vec![Message::new("x")]).await.unwrap()[0].as_ref().unwrap();
        consumers.push(queue.subscribe(&Subscription::new(name)).await.unwrap());
    }
    for came in join_all(consumers.iter().map(|consumer| consumer.receive(1, Duration::from_secs(20)))).await
    {
        assert_eq!(came.unwrap().len(), 1);
    }
    let connections = node.eval("length(rabbit_networking:local_connections())").await.unwrap();
    assert!(connections.parse::<usize>().unwrap() >= 40 / 16 + 2, "{connections} connections");
}
