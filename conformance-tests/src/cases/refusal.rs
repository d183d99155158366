//! RED: a broker that refuses writes, and one that has forgotten its scripts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use polyqueue::{
    Certainty, Consumer, Delivery, Error, Message, MessageId, Queue, QueueName, Settled, Verdict,
};

use super::arrival::patience;
use super::fault::publish_after_fault;
use super::hand::{PATIENCE, expiring, hold, numbered, steady};
use super::ledger::passing;
use crate::verbs::{dead_all, eventually, publish_all, publish_any, publish_one, receive_one, settle_one};
use crate::{Case, Env, Fail, Fault, Outcome, case, ensure, ensure_eq};

/// Of each call while writes are refused.
const DEADLINE: Duration = Duration::from_secs(2);
/// Operations, each of which finds the scripts forgotten.
const ROUNDS: usize = 40;

async fn scripts_are_forgotten(env: Env) -> Outcome {
    let (queue, name) = env.declared("forgetful").await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    let faults = env.faults().await?;
    for _ in 0..ROUNDS {
        faults.apply(Fault::FlushScripts).await?;
        let id = publish_one(&queue, &name, Message::new("one")).await?;
        for attempt in 1..=2 {
            faults.apply(Fault::FlushScripts).await?;
            let delivery = receive_one(&*consumer, PATIENCE).await?;
            ensure_eq!((delivery.message.id(), delivery.attempt), (&id, attempt), "what came");
            faults.apply(Fault::FlushScripts).await?;
            let verdict = if attempt == 1 { Verdict::retry(env.t(0.0), "again") } else { Verdict::Ack };
            ensure_eq!(
                settle_one(&*consumer, &delivery.receipt, verdict).await?,
                Settled::Applied,
                "verdict"
            );
        }
    }
    ensure_eq!(queue.stats(&name).await?.ready, 0, "left");
    env.drained(&name);
    Ok(())
}

/// What is refused has not happened, not even in part, and afterwards everything works.
async fn writes_are_refused(env: Env) -> Outcome {
    let faults = env.faults().await?;
    for fault in [Fault::OutOfMemory, Fault::ReadOnly, Fault::DiskFull] {
        if faults.offers(fault.kind()) {
            while_refusing(&env, fault).await.map_err(|fail| Fail::new(format!("{fault:?}: {fail}")))?;
        }
    }
    Ok(())
}

/// The second wave of publishes finds a handle that knows.
async fn while_refusing(env: &Env, fault: Fault) -> Outcome {
    let name = env.queue_name(&format!("{fault:?}").to_lowercase());
    let queue = env.open_with(|options| options.deadline(DEADLINE)).await?;
    queue.declare(&name.clone().into()).await?;
    let consumer = queue.subscribe(&expiring(env, &name)).await?;
    publish_all(&queue, &name, numbered(6)).await?;
    let held = hold(&*consumer, 3).await?;
    let faults = env.faults().await?;
    faults.apply(fault).await?;
    let mut refused = publish_refused(&queue, &name).await?;
    refused.append(&mut publish_refused(&queue, &name).await?);
    settle_refused(env, &*consumer, &held).await?;
    faults.heal().await?;
    publish_after_fault(env, &queue, &name, "after").await?;
    everything_is_there(env, &queue, &name, &*consumer, &refused).await
}

async fn settle_refused(env: &Env, consumer: &dyn Consumer, held: &[Delivery]) -> Outcome {
    let verdicts = [Verdict::Ack, Verdict::retry(env.t(0.0), "again"), Verdict::reject("not for me")];
    let verdicts: Vec<_> =
        held.iter().zip(verdicts).map(|(delivery, verdict)| (delivery.receipt.clone(), verdict)).collect();
    match consumer.settle(&verdicts).await {
        Ok(answers) => answers.iter().filter_map(|answer| answer.as_ref().err()).try_for_each(passing),
        Err(error) => passing(&error),
    }
}

async fn publish_refused(queue: &Arc<dyn Queue>, name: &QueueName) -> Result<BTreeSet<MessageId>, Fail> {
    let refusals = try_join_all([0, 0, 1, 1].map(|seconds| publish_one_refused(queue, name, seconds)));
    let refused: BTreeSet<MessageId> = refusals.await?.into_iter().flatten().collect();
    ensure!(!refused.is_empty(), "the broker refused nothing: nothing was tried");
    Ok(refused)
}

async fn publish_one_refused(
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    seconds: u64,
) -> Result<Option<MessageId>, Fail> {
    let message = Message::new("more").with_delay(Duration::from_secs(seconds));
    let id = message.id().clone();
    let Err(error) = publish_any(queue, name, message).await? else { return Ok(None) };
    ensure!(matches!(error, Error::Unavailable { .. }), "a refusal was answered {error}");
    ensure_eq!(error.certainty(), Certainty::Definite, "of a refusal, {error}");
    Ok(Some(id))
}

/// What was stored comes to its end, as the history shows; what was refused neither comes nor dies.
async fn everything_is_there(
    env: &Env,
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    consumer: &dyn Consumer,
    refused: &BTreeSet<MessageId>,
) -> Outcome {
    let drained = || async {
        for delivery in consumer.receive(10, env.t(1.0)).await? {
            ensure!(!refused.contains(delivery.message.id()), "what was refused came: {delivery:?}");
            settle_one(consumer, &delivery.receipt, Verdict::Ack).await?;
        }
        let stats = queue.stats(name).await?;
        let waiting = stats.ready + stats.delayed.unwrap_or(0) + stats.in_flight.unwrap_or(0);
        Ok((waiting == 0).then_some(()))
    };
    eventually(env, 2 * patience(env), "an empty queue", drained).await?;
    for dead in dead_all(queue, name).await? {
        let is_known = dead.message().is_some_and(|message| !refused.contains(message.id()));
        ensure!(is_known, "what was refused died: {dead:?}");
    }
    env.drained(name);
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-RED-01",
        "the broker forgets its scripts between every two operations",
        ["S-FLT-2", "S-PUB-1", "S-DEL-3", "S-RET-1"],
        Both,
        [Fault(FlushScripts)],
        scripts_are_forgotten
    ),
    case!(
        "C-RED-04",
        "writes are refused in each way: nothing of them happens, and all works again",
        ["S-FLT-1", "S-FLT-2", "S-PUB-2", "S-DEL-1", "S-DLQ-2"],
        Both,
        [Fault(OutOfMemory)],
        writes_are_refused
    ),
];
