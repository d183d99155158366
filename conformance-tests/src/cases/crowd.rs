//! Many at once: tasks side by side, and queues emptied in large batches.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Consumer, Delivery, Queue, QueueName, Receipt, Settled, Verdict};

use super::arrival::patience;
use crate::{Env, Fail, Outcome, ensure, ensure_eq};

/// Runs each in a task of its own, answering in the order of the input; the first failure is the answer.
pub(super) async fn in_tasks<T, F>(work: impl IntoIterator<Item = F>) -> Result<Vec<T>, Fail>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Fail>> + Send + 'static,
{
    let tasks: Vec<_> = work.into_iter().map(tokio::spawn).collect();
    let mut done = Vec::with_capacity(tasks.len());
    for task in tasks {
        done.push(task.await.map_err(|panic| Fail::from(panic.to_string()))??);
    }
    Ok(done)
}

/// A client and a queue for calls of thousands of messages, which a busy machine may need longer for than the usual deadline.
pub(super) async fn declared_for_thousands(
    env: &Env,
    name: &str,
) -> Result<(Arc<dyn Queue>, QueueName), Fail> {
    let queue = env.open_with(|options| options.deadline(Duration::from_secs(40))).await?;
    let q = env.queue_name(name);
    queue.declare(&q.clone().into()).await?;
    Ok((queue, q))
}

/// Acks a batch in one call.
pub(super) async fn ack_all(consumer: &dyn Consumer, deliveries: &[Delivery]) -> Outcome {
    let verdicts: Vec<(Receipt, Verdict)> =
        deliveries.iter().map(|delivery| (delivery.receipt.clone(), Verdict::Ack)).collect();
    for settled in consumer.settle(&verdicts).await? {
        ensure_eq!(settled?, Settled::Applied, "the answer to an ack in a batch");
    }
    Ok(())
}

/// Receives up to `max` at a time and acks them until `n` came; fails when one of them does not come.
pub(super) async fn drain_in_batches(
    env: &Env,
    consumer: &dyn Consumer,
    n: usize,
    max: usize,
) -> Result<Vec<Delivery>, Fail> {
    let mut drained = Vec::with_capacity(n);
    while drained.len() < n {
        let batch = consumer.receive(max, patience(env)).await?;
        ensure!(!batch.is_empty(), "{} of {n} messages came, then nothing", drained.len());
        ensure!(batch.len() <= max, "{} messages came for a receive of {max}", batch.len());
        ack_all(consumer, &batch).await?;
        drained.extend(batch);
    }
    Ok(drained)
}
