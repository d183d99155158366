//! Many publishes under way at a time: each gets its own answer.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::time::Duration;

use futures_util::future::join_all;
use polyqueue::{ConnectOptions, Error, Message, QueueName, QueueSpec, Subscription};
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;

const THERE: QueueName = QueueName::from_static("there");
const GONE: QueueName = QueueName::from_static("gone");
const BATCHES: usize = 40;
const BATCH: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_is_told_to_its_own_publisher() {
    let broker = RabbitBroker::start().await.unwrap();
    let queue = PROVIDER.connect(ConnectOptions::new(broker.url())).await.unwrap();
    queue.declare(&QueueSpec::new(THERE)).await.unwrap();

    let publishes = (0..2 * BATCHES).map(|n| {
        let (queue, name) = (queue.clone(), if n % 2 == 0 { THERE } else { GONE });
        let batch: Vec<_> = (0..BATCH).map(|m| Message::new(format!("{n}-{m}"))).collect();
        tokio::spawn(async move { (name.clone(), queue.publish(&name.into(), batch).await) })
    });
    for done in join_all(publishes).await {
        let (name, answer) = done.unwrap();
        if name == THERE {
            assert!(answer.unwrap().iter().all(Result::is_ok));
        } else {
            assert!(matches!(answer, Err(Error::NotFound(_))), "{answer:?}");
        }
    }

    let consumer = queue.subscribe(&Subscription::new(THERE)).await.unwrap();
    let mut next = vec![0; 2 * BATCHES];
    for _ in 0..BATCHES * BATCH {
        let delivery = consumer.receive(1, Duration::from_secs(20)).await.unwrap().pop().unwrap();
        let text = String::from_utf8(delivery.message.payload().to_vec()).unwrap();
        let (n, m): (usize, usize) =
            text.split_once('-').map(|(n, m)| (n.parse().unwrap(), m.parse().unwrap())).unwrap();
        assert_eq!(m, next[n], "the order within batch {n}");
        next[n] += 1;
    }
    assert!(consumer.receive(1, Duration::ZERO).await.unwrap().is_empty());
}
