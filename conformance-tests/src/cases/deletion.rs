//! RED, RMQ: parts of a queue are taken away by other hands while somebody waits: it is there again soon, and nobody asks in a hurry.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Certainty, Consumer, Destination, Error, Message, Pattern, Queue, QueueSpec, RoutingKey, Settled, Verdict,
};
use tokio::time::{Instant, sleep};

use super::arrival::{ack, patience};
use super::fault::{next_after_fault, publish_after_fault};
use super::hand::{PATIENCE, steady};
use super::ledger::{WORKS_WITHIN, passing};
use crate::verbs::{dead_all, eventually, publish_any, publish_one, receive_none, receive_one, settle_one};
use crate::{Case, Env, Fail, Fault, LinkedQueue, Outcome, Part, case, ensure, ensure_eq};

/// How soon a waiting receive goes on.
const GOES_ON_WITHIN: Duration = Duration::from_secs(1);
/// For so long it is watched what a waiting receive sends; no command of it has more bytes.
const WATCHED: Duration = Duration::from_secs(2);
const LONGEST_COMMAND: u64 = 1_000;
/// Commands in a second.
const COMMANDS: u64 = 20;

async fn deleted_under_a_waiting_receive(env: Env) -> Outcome {
    let faults = env.faults().await?;
    for fault in [Fault::DestroyGroups, Fault::Rename, Fault::Delete(Part::Ready)] {
        if faults.offer(fault).is_some() {
            under_a_waiting_receive(&env, fault).await.map_err(|fail| during(fault, &fail))?;
        }
    }
    Ok(())
}

fn during(fault: Fault, fail: &Fail) -> Fail {
    Fail::new(format!("{fault:?}: {fail}"))
}

fn name_of(fault: Fault) -> String {
    format!("{fault:?}").to_lowercase().replace(['(', ')'], "-")
}

async fn under_a_waiting_receive(env: &Env, fault: Fault) -> Outcome {
    let (other, name) = env.declared(&name_of(fault)).await?;
    let LinkedQueue { queue, link, .. } = env.link().await?;
    let consumer: Arc<dyn Consumer> = queue.subscribe(&steady(env, &name)).await?.into();
    // One has been there and is gone, so that there is something to be taken away.
    publish_one(&other, &name, Message::new("before")).await?;
    ack(&*consumer, &receive_one(&*consumer, PATIENCE).await?).await?;
    let (waiter, its_env) = (consumer.clone(), env.clone());
    let waiting = tokio::spawn(async move { next_after_fault(&its_env, &*waiter).await });
    sleep(env.t(2.0)).await;
    env.faults().await?.apply(fault).await?;
    let before = link.traffic().to_broker;
    sleep(WATCHED).await;
    let sent = link.traffic().to_broker - before;
    let most = COMMANDS * LONGEST_COMMAND * WATCHED.as_secs();
    ensure!(sent <= most, "a waiting receive sent {sent} bytes within {WATCHED:?}");
    publish_after_fault(env, &other, &name, "after").await?;
    let published = Instant::now();
    let arrival = waiting.await.map_err(|panic| panic.to_string())??;
    env.in_time_by("the next message", published, arrival.receive.ret, GOES_ON_WITHIN)?;
    ack(&*consumer, &arrival.delivery).await
}

async fn deleted_while_consuming(env: Env) -> Outcome {
    let faults = env.faults().await?;
    for part in [Part::Ready, Part::Routes, Part::Dead] {
        let fault = Fault::Delete(part);
        if faults.offer(fault).is_some() {
            while_consuming(&env, fault).await.map_err(|fail| during(fault, &fail))?;
        }
    }
    Ok(())
}

async fn while_consuming(env: &Env, fault: Fault) -> Outcome {
    let name = env.queue_name(&name_of(fault));
    let topic = RoutingKey::new(name.as_str())?;
    let queue = env.open().await?;
    queue.declare(&QueueSpec::new(name.clone()).bind(Pattern::new(name.as_str())?)).await?;
    let consumer = queue.subscribe(&steady(env, &name)).await?;
    receive_none(&*consumer, Duration::ZERO).await?;
    let faults = env.faults().await?;
    faults.apply(fault).await?;
    let deleted = Instant::now();
    for to in [Destination::from(&name), Destination::from(&topic)] {
        stored_or_refused(env, &queue, &to, &*consumer, deleted).await?;
    }
    faults.heal().await?;
    publish_one(&queue, &name, Message::new("dies")).await?;
    let doomed = receive_one(&*consumer, PATIENCE).await?;
    let died = settle_one(&*consumer, &doomed.receipt, Verdict::reject("not for me")).await?;
    ensure_eq!(died, Settled::Died, "a verdict");
    ensure_eq!(dead_all(&queue, &name).await?.len(), 1, "dead letters");
    Ok(())
}

/// What is answered Ok comes, and what is refused is so for sure: nothing is published into the void. And soon it is taken.
async fn stored_or_refused(
    env: &Env,
    queue: &Arc<dyn Queue>,
    to: &Destination,
    consumer: &dyn Consumer,
    deleted: Instant,
) -> Outcome {
    let stored = || async {
        match publish_any(queue, to.clone(), Message::new("after")).await? {
            Ok(_) => return Ok(Some(())),
            Err(error @ Error::NotFound { .. }) => {
                ensure_eq!(error.certainty(), Certainty::Definite, "of {error}");
            }
            Err(error) => passing(&error)?,
        }
        Ok(None)
    };
    eventually(env, patience(env), &format!("a publish to {to}"), stored).await?;
    let came = next_after_fault(env, consumer).await?;
    env.in_time_by(&format!("a message to {to}"), deleted, came.receive.ret, WORKS_WITHIN)?;
    ack(consumer, &came.delivery).await
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-RED-02",
        "streams and groups are deleted or renamed under a waiting receive: it goes on within a second, in no hurry",
        ["S-FLT-1"],
        Both,
        [Fault(DestroyGroups), Link],
        deleted_under_a_waiting_receive
    ),
    case!(
        "C-RMQ-02",
        "queues, routes and dead letters are deleted while somebody consumes: they are there again within five seconds",
        ["S-FLT-3", "S-PUB-1", "S-PUB-2", "S-DLQ-2"],
        Both,
        [Fault(Delete)],
        deleted_while_consuming
    ),
];
