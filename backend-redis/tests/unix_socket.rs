//! A server that is reached by a socket of this machine.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use polyqueue::{ConnectOptions, Error, Message, Queue, QueueExt, QueueName, Subscription, Verdict};
use polyqueue_conformance::broker::{Broker, RedisBroker};
use polyqueue_redis::PROVIDER;
use tokio::time::sleep;

const Q: QueueName = QueueName::from_static("q");
const USER: &str = "ACL SETUSER shop on >s3cr3t ~* &* +@all";
const SOON: Duration = Duration::from_secs(10);

async fn pass_one_through(queue: &Arc<dyn Queue>) {
    queue.publish_one(Q, Message::new("by the socket")).await.unwrap();
    let consumer = queue.subscribe(&Subscription::new(Q)).await.unwrap();
    let delivery = consumer.receive(1, SOON).await.unwrap().pop().unwrap();
    assert_eq!(delivery.message.payload(), "by the socket");
    consumer.settle(&[(delivery.receipt, Verdict::Ack)]).await.unwrap();
}

#[tokio::test]
async fn all_works_by_a_socket_also_after_a_restart() {
    // The server makes a relative path in the directory that it runs in.
    let broker = RedisBroker::start_with(&["--unixsocket", "r.sock"]).await.unwrap();
    let socket = broker.dir().join("r.sock");
    broker.command(USER).await.unwrap();
    let url = format!("redis+unix://{}?database=3&user=shop&password=s3cr3t", socket.display());
    let queue = PROVIDER.connect(ConnectOptions::new(&url)).await.unwrap();
    queue.declare(&Q.into()).await.unwrap();
    pass_one_through(&queue).await;
    assert_eq!(broker.command("DBSIZE").await.unwrap(), "0", "nothing is in another database");

    let wrong = url.replace("s3cr3t", "hunter2");
    let error = PROVIDER.connect(ConnectOptions::new(wrong)).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert!(error.to_string().contains("r.sock") && !error.to_string().contains("hunter2"), "{error}");

    broker.kill9().await.unwrap();
    let gone = PROVIDER.connect(ConnectOptions::new(&url)).await.unwrap_err();
    assert!(matches!(gone, Error::Unavailable { .. }), "{gone}");
    assert!(gone.to_string().contains("r.sock") && !gone.to_string().contains("s3cr3t"), "{gone}");
    broker.start_again().await.unwrap();
    // Users are not kept over a restart.
    broker.command(USER).await.unwrap();
    let began = Instant::now();
    while let Err(error) = queue.declare(&Q.into()).await {
        assert!(began.elapsed() < SOON, "{error}");
        sleep(SOON / 100).await;
    }
    pass_one_through(&queue).await;
    queue.close().await.unwrap();
}
