//! PRI: strict for any number of consumers, and under a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use polyqueue::{Queue, QueueName, Worker};
use tokio::time::{Instant, sleep};

use super::arrival::{ack, patience};
use super::crew::{Running, Started, Starts};
use super::crowd::in_tasks;
use super::priority::messages_at;
use crate::verbs::publish_all;
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

/// The order is judged by the checkers of the history, which know when each call began and ended.
async fn a_crowd_sees_no_inversion(env: Env) -> Outcome {
    const N: usize = 1500;
    let (queue, q) = env.declared("crowd").await?;
    let producers = (0..3).map(|_| publish_mixed(env.clone(), queue.clone(), q.clone(), N / 3));
    let left = Arc::new(AtomicUsize::new(N));
    let consumers = (0..4).map(|_| work(env.clone(), q.clone(), left.clone()));
    let (_, came) = tokio::try_join!(in_tasks(producers), in_tasks(consumers))?;
    ensure_eq!(came.into_iter().sum::<usize>(), N, "hand-outs");
    Ok(())
}

async fn publish_mixed(env: Env, queue: Arc<dyn Queue>, q: QueueName, n: usize) -> Outcome {
    let mut rng = env.rng();
    for _ in 0..n {
        publish_all(&queue, &q, messages_at(1, 1 + rng.below(10) as u8)).await?;
    }
    Ok(())
}

/// Receives, works up to 6 ms and acks, until none is left; answers how many came here.
async fn work(env: Env, q: QueueName, left: Arc<AtomicUsize>) -> Result<usize, Fail> {
    let queue = env.open().await?;
    let consumer = queue.subscribe(&env.subscription(&q).lease(env.t(100.0))).await?;
    let (mut rng, mut came, start) = (env.rng(), 0, Instant::now());
    while left.load(SeqCst) > 0 {
        ensure!(start.elapsed() < 4 * patience(&env), "{} did not come", left.load(SeqCst));
        for delivery in consumer.receive(1, env.t(0.5)).await? {
            left.fetch_sub(1, SeqCst);
            came += 1;
            sleep(Duration::from_micros(rng.below(6001))).await;
            ack(&*consumer, &delivery).await?;
        }
    }
    Ok(came)
}

async fn a_busy_worker_parks_nothing(env: Env) -> Outcome {
    let (queue, q) = env.declared("parks-nothing").await?;
    publish_all(&queue, &q, messages_at(200, 1)).await?;
    let mut starts = Starts::new();
    let worker = starts.of(Worker::new(queue.clone()).concurrency(4).lease(env.t(100.0)));
    let running = Running::start(worker, std::slice::from_ref(&q));
    let busy = four_starts(&env, &mut starts).await?;
    publish_all(&queue, &q, messages_at(4, 10)).await?;
    drop(busy);
    let next = four_starts(&env, &mut starts).await?;
    let levels: Vec<u8> = next.iter().map(|started| started.job.message.priority().get()).collect();
    ensure_eq!(levels, [10; 4], "the next four starts");
    drop((next, starts));
    running.stop().await?;
    Ok(())
}

async fn four_starts(env: &Env, starts: &mut Starts) -> Result<Vec<Started>, Fail> {
    let mut four = Vec::new();
    for _ in 0..4 {
        four.push(starts.next(env).await?);
    }
    Ok(four)
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-PRI-04",
        "a crowd of producers and consumers sees no inversion",
        ["S-PRI-1", "S-PRI-2", "S-ORD-1"],
        Safety,
        [],
        a_crowd_sees_no_inversion
    ),
    case!(
        "C-PRI-05",
        "a busy worker parks nothing: urgent messages are its next starts",
        ["S-PRI-2"],
        Safety,
        [],
        a_busy_worker_parks_nothing
    ),
];
