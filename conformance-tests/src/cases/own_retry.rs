//! What a handler says of its own against trying again: fewer attempts than its worker, and an error that is permanent.

use polyqueue::{DeadReason, Failure, HandlerOptions, Job, Message, Payload, Permanent, Worker};
use serde::{Deserialize, Serialize};

use super::crew::Running;
use super::hand::PATIENCE;
use super::worker::soon;
use crate::verbs::{dead_all, eventually, publish_all};
use crate::{Case, Env, Outcome, case, ensure_eq};

#[derive(Serialize, Deserialize)]
struct Impatient;

impl Payload for Impatient {
    const KIND: &'static str = "impatient";
}

#[derive(Serialize, Deserialize)]
struct Hopeless;

impl Payload for Hopeless {
    const KIND: &'static str = "hopeless";
}

async fn fails(_: Job<Impatient>) -> Result<(), Failure> {
    Err("not yet")?
}

async fn never_works(_: Job<Hopeless>) -> Result<(), Failure> {
    Err(Permanent::new("no such customer"))?
}

async fn a_handler_gives_up_before_its_worker(env: Env) -> Outcome {
    let (queue, name) = env.declared("given up").await?;
    publish_all(&queue, &name, vec![Message::of(&Impatient)?, Message::of(&Hopeless)?]).await?;
    let worker = Worker::new(queue.clone())
        .retry(soon(&env, 5)?)
        .on_with(fails, HandlerOptions::new().retry(soon(&env, 2)?))
        .on(never_works);
    let running = Running::start(worker, std::slice::from_ref(&name));
    eventually(&env, PATIENCE, "two dead letters", async || {
        Ok((queue.stats(&name).await?.counters.died == 2).then_some(()))
    })
    .await?;
    ensure_eq!(running.stop().await?.died, 2, "died, of the report");
    let mut dead: Vec<_> = dead_all(&queue, &name)
        .await?
        .iter()
        .map(|it| {
            let kind = it.message().map(|message| message.kind().to_owned()).unwrap_or_default();
            (kind, it.reason, it.attempts, it.error.clone())
        })
        .collect();
    dead.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = [
        ("hopeless".to_owned(), DeadReason::Rejected, 1, "no such customer".to_owned()),
        ("impatient".to_owned(), DeadReason::MaxAttempts, 2, "not yet".to_owned()),
    ];
    ensure_eq!(dead, expected, "kind, reason, attempts and error of each dead letter");
    Ok(())
}

pub(crate) const CASES: &[Case] = &[case!(
    "C-RET-08",
    "a handler's own maximum of attempts and a permanent error end a message before its worker's policy does",
    ["S-RET-5", "S-LIF-8", "S-DLQ-1"],
    Safety,
    [],
    a_handler_gives_up_before_its_worker
)];
