//! A service that starts before its Redis.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use polyqueue::{Bytes, Certainty, ConnectOptions, Job, Message, QueueExt, QueueName, Worker};
use polyqueue_conformance::broker::{Broker, RedisBroker};
use polyqueue_redis::PROVIDER;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

const Q: QueueName = QueueName::from_static("q");
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_service_starts_before_its_server_and_works_when_it_has_come() {
    let broker = RedisBroker::start().await.unwrap();
    let url = broker.url();
    let declared = PROVIDER.connect(ConnectOptions::new(&url)).await.unwrap();
    declared.declare(&Q.into()).await.unwrap();
    broker.kill9().await.unwrap();

    let began = Instant::now();
    let queue = PROVIDER.connect_lazily(ConnectOptions::new(&url)).unwrap();
    let refused = queue.publish_one(Q, Message::new("too early")).await.unwrap_err();
    assert_eq!(refused.certainty(), Certainty::Definite);
    assert!(refused.is_transient(), "{refused}");
    assert!(!queue.health().await.healthy);
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    let (done, stop) = oneshot::channel::<()>();
    let done = std::sync::Mutex::new(Some(done));
    let handler = move |_: Job<Bytes>| {
        drop(done.lock().unwrap().take());
        async { Ok(()) }
    };
    let working = tokio::spawn(Worker::new(queue.clone()).on_others(handler).run([Q], stop));
    sleep(2 * SECOND).await;

    broker.start_again().await.unwrap();
    let came = Instant::now();
    while queue.publish_one(Q, Message::new("in time")).await.is_err() {
        assert!(came.elapsed() < 5 * SECOND, "nothing could be published");
        sleep(SECOND / 20).await;
    }
    let report = timeout(5 * SECOND, working).await.unwrap().unwrap().unwrap();
    assert_eq!(report.acked, 1);
    assert!(queue.health().await.healthy);
    queue.close().await.unwrap();
}
