//! How many objects of the broker queues and delays take, as docs/wire-format.md says.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::time::Duration;

use polyqueue::{ConnectOptions, Message, Queue, QueueExt, QueueName, Subscription};
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;

/// Queues, exchanges but for the broker's own, and bindings but for those of the default exchange.
async fn objects(node: &RabbitBroker) -> String {
    let counted = "{length(rabbit_amqqueue:list()), \
                   length([N || E <- rabbit_exchange:list(<<\"/\">>), {name, {resource, _, exchange, N}} <- rabbit_exchange:info(E, [name]), \
                   N =/= <<>>, not lists:prefix(\"amq.\", binary_to_list(N))]), \
                   length([B || B <- rabbit_binding:list(<<\"/\">>), {binding, {resource, _, exchange, N}, _, _, _} <- [B], N =/= <<>>])}";
    node.eval(counted).await.unwrap()
}

async fn declare(queue: &dyn Queue, names: std::ops::Range<usize>) {
    for nth in names {
        queue.declare(&QueueName::new(format!("q{nth}")).unwrap().into()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_as_many_as_the_docs_say() {
    let node = RabbitBroker::start().await.unwrap();
    let queue = PROVIDER.connect(ConnectOptions::new(node.url()).namespace("objects")).await.unwrap();
    let mut counted = Vec::new();
    for (from, to) in [(0, 1), (1, 10), (10, 100)] {
        declare(&*queue, from..to).await;
        counted.push(objects(&node).await);
    }
    let first = QueueName::from_static("q0");
    let message = Message::new("later").with_delay(Duration::from_secs(10));
    queue.publish_one(first.clone(), message).await.unwrap();
    queue.publish_one(first.clone(), Message::new("now")).await.unwrap();
    let consumer = queue.subscribe(&Subscription::new(first)).await.unwrap();
    assert_eq!(consumer.receive(1, Duration::from_secs(10)).await.unwrap().len(), 1);
    let mut at_last = objects(&node).await;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        at_last = objects(&node).await;
        if at_last == "{225,106,502}" {
            break;
        }
    }
    counted.push(at_last);
    assert_eq!(counted, ["{5,6,6}", "{23,15,51}", "{203,105,501}", "{225,106,502}"]);
}
