//! ADM: health says what is so, soon and in time: of a broker that is gone, and of a consumer that is given nothing.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Consumer, Queue};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::arrival::{Arrival, ack, patience, timed};
use super::fault::{next_after_fault, publish_after_fault};
use super::hand::steady;
use crate::verbs::receive_none;
use crate::{Case, Env, Fail, Fault, Outcome, case, ensure, ensure_eq};

/// How soon health says what has happened.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// How soon it answers.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

async fn a_dead_broker_is_told(env: Env) -> Outcome {
    let (queue, name) = env.declared("mortal").await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    receive_none(&*consumer, Duration::ZERO).await?;
    becomes(&env, &queue, true, Instant::now()).await?;
    let faults = env.faults().await?;
    for fault in [Fault::Kill9, Fault::Pause] {
        faults.apply(fault).await?;
        becomes(&env, &queue, false, Instant::now()).await.map_err(|fail| during(fault, &fail))?;
        faults.heal().await?;
        becomes(&env, &queue, true, Instant::now()).await.map_err(|fail| during(fault, &fail))?;
    }
    Ok(())
}

fn during(fault: Fault, fail: &Fail) -> Fail {
    Fail::new(format!("{fault:?}: {fail}"))
}

/// Health says so, soon after `since`.
async fn becomes(env: &Env, queue: &Arc<dyn Queue>, healthy: bool, since: Instant) -> Outcome {
    loop {
        let (said, asked) = says(env, queue).await?;
        if said == healthy {
            return env.in_time_by(&format!("health = {healthy}"), since, asked, TOLD_WITHIN);
        }
        ensure!(since.elapsed() < patience(env), "health says {said} for ever");
        sleep(env.t(0.1)).await;
    }
}

/// What health says, and when it was asked.
async fn says(env: &Env, queue: &Arc<dyn Queue>) -> Result<(bool, Instant), Fail> {
    let (health, call) = timed(queue.health()).await;
    env.in_time_by("an answer of health", call.inv, call.ret, ANSWERS_WITHIN)?;
    ensure_eq!(health.provider, env.info().provider, "whose health");
    ensure_eq!(health.healthy, health.detail.is_empty(), "only illness has a reason: {health:?}");
    Ok((health.healthy, call.inv))
}

/// Each of these may leave a consumer that waits and is given nothing.
const BEREAVING: &[Fault] =
    &[Fault::CloseConnections, Fault::CloseChannels, Fault::DestroyGroups, Fault::Rename];

/// A message is ready and somebody waits for it: either it comes, or health says that it does not.
async fn nobody_is_healthy_and_silent(env: Env) -> Outcome {
    let faults = env.faults().await?;
    for &fault in BEREAVING.iter().filter(|fault| faults.offers(fault.kind())) {
        while_waiting(&env, fault).await.map_err(|fail| during(fault, &fail))?;
    }
    Ok(())
}

async fn while_waiting(env: &Env, fault: Fault) -> Outcome {
    let (queue, name) = env.declared(&format!("{fault:?}").to_lowercase()).await?;
    let consumer: Arc<dyn Consumer> = queue.subscribe(&steady(env, &name)).await?.into();
    receive_none(&*consumer, Duration::ZERO).await?;
    let waiting = waits(env, &consumer);
    sleep(env.t(2.0)).await;
    let faults = env.faults().await?;
    faults.apply(fault).await?;
    // Another handle publishes, so that this one does nothing but wait.
    let other = env.open().await?;
    publish_after_fault(env, &other, &name, "ready").await?;
    let ready = Instant::now();
    while !waiting.is_finished() {
        let (healthy, asked) = says(env, &queue).await?;
        if healthy && !waiting.is_finished() {
            env.in_time_by("a message or a bad health", ready, asked, TOLD_WITHIN)?;
        }
        ensure!(ready.elapsed() < patience(env), "what is ready is not handed out");
        sleep(env.t(0.1)).await;
    }
    let arrival = waiting.await.map_err(|panic| panic.to_string())??;
    ack(&*consumer, &arrival.delivery).await?;
    becomes(env, &queue, true, Instant::now()).await?;
    faults.heal().await
}

fn waits(env: &Env, consumer: &Arc<dyn Consumer>) -> JoinHandle<Result<Arrival, Fail>> {
    let (env, consumer) = (env.clone(), consumer.clone());
    tokio::spawn(async move { next_after_fault(&env, &*consumer).await })
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-ADM-06",
        "health says within two seconds that the broker is gone, and that it is there again, and answers within one",
        ["S-ADM-3"],
        Liveness,
        [Fault(Kill9)],
        a_dead_broker_is_told
    ),
    case!(
        "C-ADM-07",
        "a consumer that is given nothing of what is ready is in bad health",
        ["S-ADM-3", "S-FLT-1"],
        Liveness,
        [Fault(CloseConnections)],
        nobody_is_healthy_and_silent
    ),
];
