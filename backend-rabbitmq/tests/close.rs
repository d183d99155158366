//! The orderly end of a handle, over a link that takes its time.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::time::Duration;

use polyqueue::{Admin, ConnectOptions, Message, Queue, QueueExt, QueueName, Subscription};
use polyqueue_conformance::Link;
use polyqueue_conformance::broker::{Broker, Proxy, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;

const Q: QueueName = QueueName::from_static("q");
const SECOND: Duration = Duration::from_secs(1);
const BYTES: usize = 200_000;

/// What waits in a consumer's buffer is published anew, its attempt unburned, before the old one is acked: both or none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_consumer_gives_back_over_a_slow_link_is_there_once() {
    let broker = RabbitBroker::start().await.unwrap();
    let direct = PROVIDER.connect(ConnectOptions::new(broker.url())).await.unwrap();
    direct.declare(&Q.into()).await.unwrap();
    for _ in 0..4 {
        direct.publish_one(Q, Message::new(vec![7; BYTES])).await.unwrap();
    }
    let proxy = Proxy::start(broker.port()).unwrap();
    let options = ConnectOptions::new(proxy.through(&broker.url())).deadline(30 * SECOND);
    let queue = PROVIDER.connect(options).await.unwrap();
    let consumer = queue.subscribe(&Subscription::new(Q).prefetch(4)).await.unwrap();
    assert_eq!(consumer.receive(1, 10 * SECOND).await.unwrap().len(), 1);
    let received = 4 * BYTES as u64;
    tokio::time::timeout(10 * SECOND, async {
        while proxy.traffic().to_client < received {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    proxy.slow(BYTES as u64);
    queue.close().await.unwrap();
    proxy.heal();
    assert_eq!(direct.stats(&Q).await.unwrap().ready, 4);
}
