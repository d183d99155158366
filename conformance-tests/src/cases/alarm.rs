//! RMQ: the broker blocks whoever publishes, and serves consumers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use polyqueue::{Certainty, Error, Message, MessageId, Queue, QueueName};
use tokio::time::{Instant, sleep, timeout};

use super::arrival::{ack, patience, timed};
use super::fault::next_after_fault;
use super::hand::{PATIENCE, numbered, steady};
use super::ledger::{WORKS_WITHIN, passing};
use crate::verbs::{eventually, publish_all, publish_any, receive_one};
use crate::{Case, Env, Fail, Fault, Outcome, case, ensure, ensure_eq};

const DEADLINE: Duration = Duration::from_secs(2);
const MESSAGES: usize = 5;

async fn consumers_go_on_and_publishers_are_told(env: Env) -> Outcome {
    let (reader, name) = env.declared("blocked").await?;
    let writer = env.open_with(|options| options.deadline(DEADLINE)).await?;
    let consumer = reader.subscribe(&steady(&env, &name)).await?;
    publish_all(&writer, &name, numbered(MESSAGES)).await?;
    let faults = env.faults().await?;
    faults.apply(Fault::Alarm).await?;
    // A broker may say so only to whom it hears from: what happens to the first is not yet sure.
    let first = blocked(&env, &writer, &name).await?;
    let mut refused: BTreeSet<MessageId> = BTreeSet::new();
    for tried in try_join_all((0..3).map(|_| blocked(&env, &writer, &name))).await? {
        let error = tried.error.ok_or("the broker took a message despite its alarm")?;
        ensure!(matches!(error, Error::Unavailable { .. }), "a blocked publish was answered {error}");
        ensure_eq!(error.certainty(), Certainty::Definite, "of {error}");
        refused.insert(tried.id);
    }
    let taken = usize::from(first.error.is_none());
    let is_unknown = first.error.is_some_and(|error| error.certainty() == Certainty::Unknown);
    let health = writer.health().await;
    ensure!(!health.healthy && health.detail.contains("block"), "health beside an alarm: {health:?}");
    for _ in 0..MESSAGES + taken {
        ack(&*consumer, &receive_one(&*consumer, PATIENCE).await?).await?;
    }
    // For long enough that what was to be sent would be sent.
    sleep(env.t(5.0)).await;
    faults.heal().await?;
    let healed = Instant::now();
    let published = || async { Ok(publish_any(&writer, &name, Message::new("again")).await?.ok()) };
    let stored = eventually(&env, patience(&env), "a publish after the alarm", published).await?;
    let mut came = next_after_fault(&env, &*consumer).await?;
    if is_unknown && came.delivery.message.id() == &first.id {
        ack(&*consumer, &came.delivery).await?;
        came = next_after_fault(&env, &*consumer).await?;
    }
    ensure_eq!(came.delivery.message.id(), &stored.id, "what came first after the alarm");
    env.in_time_by("what was published after the alarm", healed, came.receive.ret, WORKS_WITHIN)?;
    ack(&*consumer, &came.delivery).await?;
    let healthy = || async { Ok(writer.health().await.healthy.then_some(())) };
    eventually(&env, WORKS_WITHIN, "good health after the alarm", healthy).await?;
    while let Some(late) = consumer.receive(1, env.t(5.0)).await?.pop() {
        ensure!(!refused.contains(late.message.id()), "what was refused came");
        ack(&*consumer, &late).await?;
    }
    env.drained(&name);
    Ok(())
}

struct Tried {
    id: MessageId,
    error: Option<Error>,
}

/// A publish to a broker with an alarm, which ends in time.
async fn blocked(env: &Env, writer: &Arc<dyn Queue>, name: &QueueName) -> Result<Tried, Fail> {
    let message = Message::new("blocked");
    let id = message.id().clone();
    let call = timeout(DEADLINE + patience(env), publish_any(writer, name, message));
    let (answer, span) = timed(call).await;
    let Ok(answer) = answer else { return Err("a publish hangs".into()) };
    env.in_time_by("the end of a publish", span.inv + DEADLINE, span.ret, Duration::from_secs(1))?;
    let error = answer?.err();
    error.iter().try_for_each(passing)?;
    Ok(Tried { id, error })
}

pub(crate) const CASES: &[Case] = &[case!(
    "C-RMQ-04",
    "an alarm: consumers receive and ack, a publish is refused for sure by its deadline and leaves no copy, health says so",
    ["S-PUB-2", "S-BPR-3", "S-ADM-3", "S-DEL-1"],
    Both,
    [Fault(Alarm)],
    consumers_go_on_and_publishers_are_told
)];
