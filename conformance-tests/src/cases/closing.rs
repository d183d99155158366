//! FLT: the broker closes connections and channels, and forgets everything; the handles stay the same.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Consumer, Error, Message, Settled, Verdict};
use tokio::time::{Instant, sleep};

use super::arrival::{Arrival, ack, patience};
use super::fault::{next_after_fault, publish_after_fault};
use super::hand::{PATIENCE, steady};
use super::ledger::{WORKS_WITHIN, passing};
use super::outage::loaded;
use super::traffic::Traffic;
use crate::verbs::{eventually, publish_any, publish_one, receive_one, settle_one};
use crate::{Case, Env, Fault, Outcome, case, ensure, ensure_eq};

/// While one waits, one has a message in hand, and others publish, receive and settle as fast as they can.
async fn closed_by_the_broker(env: Env, fault: Fault, times: usize) -> Outcome {
    let traffic = loaded(&env).await?;
    while_one_waits(&env, &traffic, fault).await?;
    while_one_works(&env, &traffic, fault).await?;
    for _ in 0..times {
        traffic.suffers(fault, Duration::ZERO).await?;
        sleep(env.t(env.rng().unit())).await;
    }
    traffic.recovers().await?;
    traffic.drain().await
}

async fn connections_closed(env: Env) -> Outcome {
    closed_by_the_broker(env, Fault::CloseConnections, 10).await
}

async fn channels_closed(env: Env) -> Outcome {
    closed_by_the_broker(env, Fault::CloseChannels, 30).await
}

async fn while_one_waits(env: &Env, traffic: &Traffic, fault: Fault) -> Outcome {
    let (queue, name) = env.declared("waiting").await?;
    let consumer: Arc<dyn Consumer> = queue.subscribe(&steady(env, &name)).await?.into();
    let (waiter, its_env) = (consumer.clone(), env.clone());
    let waiting = tokio::spawn(async move { next_after_fault(&its_env, &*waiter).await });
    sleep(env.t(0.5)).await;
    traffic.suffers(fault, Duration::ZERO).await?;
    let healed = Instant::now();
    publish_after_fault(env, &queue, &name, "wake up").await?;
    let arrival: Arrival = waiting.await.map_err(|panic| panic.to_string())??;
    env.in_time_by("the end of an idle wait", healed, arrival.receive.ret, WORKS_WITHIN)?;
    ack(&*consumer, &arrival.delivery).await?;
    queue.close().await.map_err(Into::into)
}

/// Its verdict takes effect, or it is told that its lease is lost and the message comes again.
async fn while_one_works(env: &Env, traffic: &Traffic, fault: Fault) -> Outcome {
    let (queue, name) = env.declared("working").await?;
    let consumer = queue.subscribe(&steady(env, &name)).await?;
    let id = publish_one(&queue, &name, Message::new("in hand")).await?;
    let held = receive_one(&*consumer, PATIENCE).await?;
    traffic.suffers(fault, Duration::ZERO).await?;
    let verdict = [(held.receipt.clone(), Verdict::Ack)];
    let answer = eventually(env, patience(env), "an answer to an ack", || async {
        match consumer.settle(&verdict).await.and_then(|mut answers| answers.remove(0)) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.is_transient() => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await?;
    if answer == Settled::LeaseLost {
        let again = next_after_fault(env, &*consumer).await?.delivery;
        ensure_eq!(again.message.id(), &id, "what came after a lost lease");
        ensure_eq!(settle_one(&*consumer, &again.receipt, Verdict::Ack).await?, Settled::Applied, "ack");
    } else {
        ensure!(answer != Settled::Died, "an ack was answered {answer:?}");
    }
    queue.close().await.map_err(Into::into)
}

/// Some of what is lost was delayed, and would have come later.
async fn wiped(env: Env) -> Outcome {
    let traffic = loaded(&env).await?;
    let (queue, name) = env.declared("wiped").await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    let delayed = Message::new("delayed").with_delay(env.t(10.0));
    let delayed = publish_one(&queue, &name, delayed).await?;
    traffic.is_wiped().await?;
    let wiped = Instant::now();
    let published = || async {
        match publish_any(&queue, &name, Message::new("first")).await? {
            Ok(_) => Ok(Some(())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => passing(&error).map(|()| None),
        }
    };
    eventually(&env, patience(&env), "a publish after everything was lost", published).await?;
    let first = next_after_fault(&env, &*consumer).await?;
    env.in_time_by("the first message after everything was lost", wiped, first.receive.ret, WORKS_WITHIN)?;
    ack(&*consumer, &first.delivery).await?;
    traffic.recovers().await?;
    tokio::time::sleep_until(wiped + env.t(11.0)).await;
    while let Some(late) = consumer.receive(1, env.t(1.0)).await?.pop() {
        ensure!(late.message.id() != &delayed, "a delayed message came although everything was lost");
        ack(&*consumer, &late).await?;
    }
    traffic.end().await
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-FLT-10",
        "the broker closes all connections while clients wait, work and settle",
        ["S-FLT-1", "S-FLT-2", "S-PUB-1", "S-DEL-1", "S-SET-2"],
        Both,
        [Fault(CloseConnections)],
        connections_closed
    ),
    case!(
        "C-RMQ-01",
        "the broker closes all channels while clients wait, work and settle",
        ["S-FLT-1", "S-FLT-2", "S-PUB-1", "S-DEL-1", "S-SET-2"],
        Both,
        [Fault(CloseChannels)],
        channels_closed
    ),
    case!(
        "C-FLT-13",
        "everything on the broker is deleted: the same handles go on, and nothing of before comes again",
        ["S-FLT-3"],
        Both,
        [Fault(Wipe)],
        wiped
    ),
];
