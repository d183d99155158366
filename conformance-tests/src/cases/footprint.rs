//! RED: what the broker uses when all is done is what it used before.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Consumer, Delivery, Message, Queue, QueueName, Verdict};

use super::arrival::patience;
use super::crowd::declared_for_thousands;
use super::hand::{level, steady};
use crate::verbs::publish_all;
use crate::{Case, Env, Fail, Footprint, Outcome, case, ensure};

const BATCHES: usize = 100;
const BATCH: usize = 100;
/// Blocks that are kept where something was, not what grows.
const SLACK: u64 = 8 * 1024;

async fn nothing_stays_behind(env: Env) -> Outcome {
    let (queue, name) = declared_for_thousands(&env, "footprint").await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    processed(&env, &queue, &name, &*consumer).await?;
    let before = uses(&env).await?;
    for _ in 0..BATCHES {
        processed(&env, &queue, &name, &*consumer).await?;
    }
    let after = uses(&env).await?;
    ensure!(after.keys <= before.keys, "{} keys were {} before", after.keys, before.keys);
    ensure!(after.bytes <= before.bytes + SLACK, "{} bytes were {} before", after.bytes, before.bytes);
    env.drained(&name);
    Ok(())
}

async fn uses(env: &Env) -> Result<Footprint, Fail> {
    let footprint = env.harness().footprint(env.namespace()).await?;
    footprint.ok_or_else(|| Fail::new("the broker does not say what it uses"))
}

/// A batch of all priorities, some delayed, some retried, to its end.
async fn processed(env: &Env, queue: &Arc<dyn Queue>, name: &QueueName, consumer: &dyn Consumer) -> Outcome {
    publish_all(queue, name, (0..BATCH).map(message).collect()).await?;
    let mut acked = 0;
    while acked < BATCH {
        let came = consumer.receive(BATCH, patience(env)).await?;
        ensure!(!came.is_empty(), "{acked} of {BATCH} were acked, then nothing came");
        let verdicts: Vec<_> = came.iter().map(|it| (it.receipt.clone(), verdict(it))).collect();
        acked += verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::Ack).count();
        for answer in consumer.settle(&verdicts).await? {
            answer?;
        }
    }
    Ok(())
}

fn message(nth: usize) -> Message {
    let delay = Duration::from_millis(if nth.is_multiple_of(10) { 1 } else { 0 });
    Message::new(vec![b'x'; 200]).with_priority(level(1 + (nth % 10) as u8)).with_delay(delay)
}

/// One of ten is retried, once.
fn verdict(delivery: &Delivery) -> Verdict {
    let retried = delivery.attempt == 1 && delivery.message.priority() == level(3);
    if retried { Verdict::retry(Duration::from_millis(1), "once") } else { Verdict::Ack }
}

pub(crate) const CASES: &[Case] = &[case!(
    "C-RED-07",
    "after ten thousand messages the broker has as many keys and as little memory as before",
    ["S-DEL-4"],
    Safety,
    [Footprint],
    nothing_stays_behind
)];
