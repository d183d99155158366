//! Schema versions: a payload of another major version is passed on or refused as asked, and nothing of it is lost.

use std::sync::Arc;

use parking_lot::Mutex;
use polyqueue::{DeadReason, Failure, Job, Message, Payload, Queue, QueueName, Versions, Worker};
use serde::{Deserialize, Serialize};

use super::crew::Running;
use super::dead_letter::only_dead_letter;
use super::hand::PATIENCE;
use super::worker::soon;
use crate::verbs::{eventually, publish_one};
use crate::{Case, Env, Outcome, case, ensure, ensure_eq};

#[derive(Serialize, Deserialize)]
struct Welcome {
    user: String,
}

impl Payload for Welcome {
    const KIND: &'static str = "welcome";
    const VERSION: &'static str = "1.2.0";
}

/// A message of kind `welcome` whose schema has another version and a field that its reader does not know.
fn welcome(version: &'static str) -> Message {
    Message::new(r#"{"user":"Ada","shoe_size":38}"#)
        .with_kind("welcome")
        .with_schema_version(version)
        .with_header("x-unknown", "kept")
}

async fn another_schema_version_is_told(env: Env) -> Outcome {
    let (queue, name) = env.declared("versions").await?;
    let (tolerant, seen) = (env.queue_name("tolerant"), Arc::new(Mutex::new(Vec::new())));
    queue.declare(&tolerant.clone().into()).await?;
    let reader = |versions: Versions| {
        let seen = seen.clone();
        Worker::new(queue.clone()).retry(soon(&env, 3).unwrap_or_default()).versions(versions).on(
            move |job: Job<Welcome>| {
                let message = &job.message;
                let kept = message.headers().get("x-unknown").cloned();
                seen.lock().push((
                    job.attempt,
                    message.schema_version().map(str::to_owned),
                    kept,
                    message.payload().clone(),
                ));
                async move { if job.attempt < 2 { Err(Failure::from("not yet")) } else { Ok(()) } }
            },
        )
    };
    publish_one(&queue, &tolerant, welcome("2.0.0")).await?;
    publish_one(&queue, &name, welcome("2.0.0")).await?;
    publish_one(
        &queue,
        &tolerant,
        Message::new("not JSON").with_kind("welcome").with_schema_version("2.0.0"),
    )
    .await?;
    let warned = Running::start(reader(Versions::Warn), std::slice::from_ref(&tolerant));
    eventually(&env, PATIENCE, "the tolerant worker done", async || {
        let counters = queue.stats(&tolerant).await?.counters;
        Ok((counters.acked == 1 && counters.died == 1).then_some(()))
    })
    .await?;
    warned.stop().await?;
    let passed = |n| (n, Some("2.0.0".to_owned()), Some("kept".to_owned()), welcome("").payload().clone());
    ensure_eq!(*seen.lock(), [passed(1), passed(2)], "what the tolerant handler saw");
    ensure_eq!(
        only_dead_letter(&queue, &tolerant).await?.reason,
        DeadReason::Undecodable,
        "what does not decode"
    );
    rejected_by_version(&env, &queue, &name, reader(Versions::Reject)).await?;
    ensure_eq!(
        seen.lock().len(),
        4,
        "hand-outs to handlers: none of another major version where those are refused"
    );
    Ok(())
}

async fn rejected_by_version(env: &Env, queue: &Arc<dyn Queue>, name: &QueueName, strict: Worker) -> Outcome {
    publish_one(queue, name, welcome("1.9.0")).await?;
    let strict = Running::start(strict, std::slice::from_ref(name));
    eventually(env, PATIENCE, "the strict worker done", async || {
        let counters = queue.stats(name).await?.counters;
        Ok((counters.acked == 1 && counters.died == 1).then_some(()))
    })
    .await?;
    strict.stop().await?;
    let dead_letter = only_dead_letter(queue, name).await?;
    ensure_eq!((dead_letter.reason, dead_letter.attempts), (DeadReason::Rejected, 1), "reason and attempts");
    ensure!(dead_letter.error.contains("2.0.0"), "{:?} does not name the version", dead_letter.error);
    Ok(())
}

pub(crate) const CASES: &[Case] = &[case!(
    "C-VAL-08",
    "another major schema version is passed on or refused as asked; unknown fields are kept",
    ["S-VAL-5", "S-RET-4"],
    Safety,
    [],
    another_schema_version_is_told
)];
