//! The worker beside the contract that it stands on: what costs a handler more than a verdict of one's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use polyqueue::{Bytes, HandlerOptions, Job, Queue, QueueName, Worker, connect_from_env, with};
use tokio::sync::Notify;

use crate::measure::{Duel, rate};
use crate::{Outcome, PUBLISHERS, ROUNDS, ours};

const MESSAGES: usize = 40_000 / PUBLISHERS * PUBLISHERS;
const PREFETCH: usize = 256;

pub(crate) async fn run() -> Outcome {
    let providers = [polyqueue_memory::PROVIDER, polyqueue_redis::PROVIDER, polyqueue_rabbitmq::PROVIDER];
    let queue = connect_from_env(&providers).await?;
    let provider = queue.info().provider;
    for (prefetch, wanted) in [(0, 0.0), (PREFETCH, 0.9)] {
        let mut duel = Duel::default();
        for _ in 0..ROUNDS {
            duel.raw.push(drained(&queue, |queue, name| ours::consume(queue, name, MESSAGES, prefetch)).await?);
            duel.ours.push(drained(&queue, |queue, name| work(queue, name, prefetch)).await?);
        }
        duel.print_as(&format!("{provider} drain, prefetch {prefetch}"), ["worker", "contract"], wanted);
    }
    Ok(())
}

/// How fast a backlog is drained so.
async fn drained<F: Future<Output = Outcome>>(
    queue: &Arc<dyn Queue>,
    drain: impl FnOnce(Arc<dyn Queue>, QueueName) -> F,
) -> Outcome<f64> {
    let name = ours::declared(queue).await?;
    ours::publish(queue.clone(), name.clone(), MESSAGES).await?;
    let rate = rate(MESSAGES, drain(queue.clone(), name.clone())).await?;
    queue.delete(&name).await?;
    Ok(rate)
}

/// A worker with a handler that does nothing, 16 at a time.
async fn work(queue: Arc<dyn Queue>, name: QueueName, prefetch: usize) -> Outcome {
    let (handled, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let count = with((handled, all.clone()), async |(handled, all), _: Job<Bytes>| {
        if handled.fetch_add(1, Relaxed) + 1 == MESSAGES {
            all.notify_one();
        }
        Ok(())
    });
    let mut worker = Worker::new(queue).concurrency(16);
    if prefetch > 0 {
        worker = worker.prefetch(prefetch);
    }
    let report = worker.on_others_with(count, HandlerOptions::new()).run([name], all.notified_owned()).await?;
    if report.acked == MESSAGES as u64 { Ok(()) } else { Err(format!("not all were acked: {report:?}").into()) }
}
