//! A process with many handles loses its server: they come back soon, and not all in the same instant.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use polyqueue::{ConnectOptions, Message, Queue};
use polyqueue_conformance::Link;
use polyqueue_conformance::broker::{Broker, Proxy};
use polyqueue_redis::PROVIDER;
use support::{Bench, QUEUE};
use tokio::time::{Instant, sleep};

const HANDLES: usize = 300;
const SECOND: Duration = Duration::from_secs(1);

/// The most attempts within any second, of these.
fn most_in_a_second(attempts: &[Instant]) -> usize {
    let within = |from: &Instant| attempts.iter().filter(|at| (*from..*from + SECOND).contains(*at)).count();
    attempts.iter().map(within).max().unwrap_or_default()
}

async fn publish(queue: &Arc<dyn Queue>) -> bool {
    let answers = queue.publish(&QUEUE.into(), vec![Message::new("")]).await;
    answers.is_ok_and(|answers| answers.iter().all(Result::is_ok))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_handles_are_back_within_ten_seconds_at_a_bounded_rate() {
    let bench = Bench::start().await;
    let proxy = Proxy::start(bench.broker.port()).unwrap();
    let url = proxy.through(&bench.broker.url());
    let connect = || PROVIDER.connect(ConnectOptions::new(&url).deadline(20 * SECOND));
    let mut handles = Vec::new();
    while handles.len() < HANDLES {
        handles.extend(join_all((0..30).map(|_| connect())).await.into_iter().map(Result::unwrap));
    }
    assert!(join_all(handles.iter().map(publish)).await.into_iter().all(|published| published));
    let lost = proxy.attempts().len();
    proxy.accept_and_close();
    proxy.cut();
    sleep(5 * SECOND).await;
    proxy.heal();
    let healed = Instant::now();
    assert!(join_all(handles.iter().map(publish)).await.into_iter().all(|published| published));
    let (took, attempts) = (healed.elapsed(), &proxy.attempts()[lost..]);
    assert!(took < 10 * SECOND, "the last handle was back after {took:?}");
    let most = most_in_a_second(attempts);
    assert!((1..=600).contains(&most), "{most} attempts in one second, {} in all", attempts.len());
}
