//! Workers that share a queue, and workers whose queues come and go.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{Bytes, Job, Message, Payload, Queue, QueueName, Worker, with};
use serde::{Deserialize, Serialize};

use super::crew::Running;
use super::hand::{Counts, PATIENCE, counts};
use crate::verbs::{eventually, publish_all, publish_one};
use crate::{Case, Env, Outcome, case, ensure, ensure_eq};

/// What is given back is handed out again after a second; half of it to the wrong one each time.
const ROUNDS: Duration = Duration::from_secs(60);
/// How long a worker may wait before it asks again for a queue that is gone.
const AGAIN: Duration = Duration::from_secs(6);

#[derive(Serialize, Deserialize)]
struct Invoice;

impl Payload for Invoice {
    const KIND: &'static str = "invoice";
}

#[derive(Serialize, Deserialize)]
struct Parcel;

impl Payload for Parcel {
    const KIND: &'static str = "parcel";
}

/// A worker that knows one kind and notes the attempts.
fn knows<T: Payload>(queue: &Arc<dyn Queue>, attempts: &Arc<Mutex<Vec<u32>>>) -> Worker {
    Worker::new(queue.clone()).on(with(attempts.clone(), async |attempts, job: Job<T>| {
        attempts.lock().push(job.attempt);
        Ok(())
    }))
}

async fn two_services_share_a_queue(env: Env) -> Outcome {
    let (queue, name) = env.declared("shared").await?;
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let billing = Running::start(knows::<Invoice>(&queue, &attempts), std::slice::from_ref(&name));
    let both = (0..20).map(|n| if n % 2 == 0 { Message::of(&Invoice) } else { Message::of(&Parcel) });
    publish_all(&queue, &name, both.collect::<Result<_, _>>()?).await?;
    eventually(&env, PATIENCE, "what is known is done before the other is there", async || {
        Ok((queue.stats(&name).await?.counters.acked == 10).then_some(()))
    })
    .await?;
    let shipping = Running::start(knows::<Parcel>(&queue, &attempts), std::slice::from_ref(&name));
    eventually(&env, ROUNDS, "all done", async || {
        Ok((queue.stats(&name).await?.counters.acked == 20).then_some(()))
    })
    .await?;
    let (billing, shipping) = (billing.stop().await?, shipping.stop().await?);
    ensure_eq!((billing.acked, shipping.acked), (10, 10), "handled by the one and the other");
    ensure!(billing.released > 0, "nothing was given back: {billing:?}");
    ensure_eq!(*attempts.lock(), vec![1; 20], "attempts");
    counts(&queue.stats(&name).await?, Counts::default(), "at the end")
}

async fn works(env: &Env, queue: &Arc<dyn Queue>, name: &QueueName) -> Outcome {
    let before = queue.stats(name).await?.counters.acked;
    publish_one(queue, name, Message::new("work")).await?;
    eventually(env, PATIENCE + AGAIN, "a message is handled", async || {
        Ok((queue.stats(name).await?.counters.acked > before).then_some(()))
    })
    .await
}

async fn a_deleted_queue_ends_no_other(env: Env) -> Outcome {
    let (queue, stays) = env.declared("stays").await?;
    let (_, goes) = env.declared("goes").await?;
    let worker = Worker::new(queue.clone()).on_others(|_: Job<Bytes>| async { Ok(()) });
    let running = Running::start(worker, &[stays.clone(), goes.clone()]);
    works(&env, &queue, &stays).await?;
    works(&env, &queue, &goes).await?;
    queue.delete(&goes).await?;
    works(&env, &queue, &stays).await?;
    queue.declare(&goes.clone().into()).await?;
    works(&env, &queue, &goes).await?;
    let report = running.stop().await?;
    ensure_eq!((report.acked, report.died), (4, 0), "acked and died, of the report");
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-LIF-08",
        "workers that know different kinds share a queue: each gives back what it does not know, and no attempt is counted",
        ["S-LIF-5", "S-ATT-1"],
        Safety,
        [],
        two_services_share_a_queue
    ),
    case!(
        "C-LIF-09",
        "a deleted queue does not end a worker that has others, and is served again when it is declared again",
        ["S-LIF-6"],
        Safety,
        [],
        a_deleted_queue_ends_no_other
    ),
];
