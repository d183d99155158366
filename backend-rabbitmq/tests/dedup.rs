//! Dedup keys beside a broker that is killed right after it confirmed them.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{ConnectOptions, Dedup, Message, Queue, QueueExt, QueueName, QueueSpec};
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;
use tokio::time::{Instant, sleep};

const KEYED: QueueName = QueueName::from_static("keyed");
const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_secs(60);
const KILLS: usize = 3;

/// Whether the message was a duplicate, once the broker answers.
async fn is_duplicate(queue: &Arc<dyn Queue>) -> bool {
    let began = Instant::now();
    loop {
        match queue.publish_one(KEYED, Message::new("keyed").with_dedup_key("k")).await {
            Ok(published) => return published.duplicate_of.is_some(),
            Err(error) if error.is_transient() && began.elapsed() < SOON => {
                sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// As on a busy node: what tells the database's log that the next transactions were committed is late, but not later than another
/// transaction takes.
const LATE_DECISIONS: &str = "sys:install(mnesia_recover, {fun(0, _, _) -> done; \
     (N, {in, {'$gen_cast', {log_decision, _}}}, _) -> timer:sleep(2), N - 1; (N, _, _) -> N end, 2})";

/// What the broker's database did last, it takes back after a crash in the next two seconds. So the key must not be last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_outlives_a_kill_a_moment_later() {
    let node = RabbitBroker::start().await.unwrap();
    for kill in 0..KILLS {
        let options = ConnectOptions::new(node.url()).namespace(format!("kill-{kill}"));
        let queue = PROVIDER.connect(options).await.unwrap();
        queue.declare(&QueueSpec::new(KEYED).dedup(Dedup::window(HOUR))).await.unwrap();
        node.eval(LATE_DECISIONS).await.unwrap();
        assert!(!is_duplicate(&queue).await);
        node.kill9().await.unwrap();
        node.start_again().await.unwrap();
        assert!(is_duplicate(&queue).await, "kill {kill}: the key is gone");
        queue.close().await.unwrap();
    }
}
