//! A seed: under a paused clock a worker has one history.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{Backoff, Failure, Job, QueueExt, RetryPolicy, Worker, with};
use tokio::time::Instant;

use crate::ext::memory;
use crate::scripted::{Call, Ping, Q, Scripted, away, ping};
use crate::worker_handlers::run_until_settled;
use crate::worker_memory::run_until_empty;

/// When each attempt began.
type History = Vec<(u32, u32, Duration)>;

async fn retries(name: &str, seed: u64) -> History {
    let queue = memory(name).await;
    for n in 0..3 {
        queue.send(Q, &Ping(n)).await.unwrap();
    }
    let backoff = Backoff::new(Duration::from_secs(60), 2.0, Duration::from_secs(600)).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let worker = Worker::new(queue.clone())
        .seed(seed)
        .retry(RetryPolicy::new(6, backoff.jitter(1.0).unwrap()).unwrap())
        .on(with((seen.clone(), Instant::now()), async |(seen, start), job: Job<Ping>| {
            seen.lock().push((job.payload.0, job.attempt, start.elapsed()));
            Err(Failure::from("boom"))
        }));
    assert_eq!(run_until_empty(&queue, worker).await.died, 3);
    seen.lock().clone()
}

async fn receives_while_away(seed: u64) -> Vec<Duration> {
    let broker = Scripted::default();
    broker.subscribe_fails([away(), away(), away()]);
    broker.receive_fails(vec![away(); 5]);
    broker.ready("a", ping(1));
    let start = Instant::now();
    let worker = Worker::new(broker.queue()).seed(seed).on(async |_: Job<Ping>| Ok(()));
    run_until_settled(&broker, worker, 1).await;
    let receives = broker.times(|call| matches!(call, Call::Receive { .. }).then_some(()));
    receives.into_iter().map(|(at, ())| at - start).collect()
}

#[tokio::test(start_paused = true)]
async fn a_seed_says_when_each_retry_comes() {
    let first = retries("seed-a", 7).await;
    assert_eq!(first.len(), 18);
    assert_eq!(first, retries("seed-b", 7).await);
    assert_ne!(first, retries("seed-c", 8).await);
}

#[tokio::test(start_paused = true)]
async fn a_seed_says_when_a_broker_that_is_away_is_asked_again() {
    let first = receives_while_away(7).await;
    assert!(first.len() > 5, "{first:?}");
    assert_eq!(first, receives_while_away(7).await);
    assert_ne!(first, receives_while_away(8).await);
}
