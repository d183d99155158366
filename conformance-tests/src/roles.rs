//! What child processes do: each role is played by another process of this test binary.

use std::collections::BTreeMap;
use std::io::Write;

use futures_util::future::BoxFuture;
use polyqueue::{Message, Verdict};
use tokio::time::sleep;

use crate::cases::arrival::patience;
use crate::cases::hand::brief;
use crate::cases::ledger::passing;
use crate::cases::traffic::stubborn;
use crate::verbs::{receive_one, settle_one};
use crate::{Env, Outcome};

/// The arguments of a role, by name.
pub type Args = BTreeMap<String, String>;

/// What a child process runs.
pub type Role = fn(Env, Args) -> BoxFuture<'static, Outcome>;

/// So many messages are in the hands of the role `hold`.
pub(crate) const HELD: usize = 5;

/// All roles, by name.
const ROLES: &[(&str, Role)] = &[
    ("crash_on_receipt", |env, args| Box::pin(crash_on_receipt(env, args))),
    ("produce", |env, args| Box::pin(produce(env, args))),
    ("consume", |env, args| Box::pin(consume(env, args))),
    ("hold", |env, args| Box::pin(hold(env, args))),
];

pub(crate) fn find(name: &str) -> Option<Role> {
    ROLES.iter().find(|(role, _)| *role == name).map(|(_, body)| *body)
}

/// The role of C-ATT-03: takes a message, says so, and crashes.
async fn crash_on_receipt(env: Env, args: Args) -> Outcome {
    let q = env.queue_name(args.get("queue").ok_or("no queue given")?);
    let queue = env.open().await?;
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    let delivery = receive_one(&*consumer, patience(&env)).await?;
    says(&format!("attempt {}", delivery.attempt))?;
    std::process::abort()
}

/// A line that is out when this returns: what happens next may be the end of the process.
fn says(line: &str) -> Outcome {
    let mut out = std::io::stdout();
    let written = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
    Ok(written.map_err(|error| error.to_string())?)
}

/// Publishes until it is killed; says of each message what became of it.
async fn produce(env: Env, args: Args) -> Outcome {
    let q = env.queue_name(args.get("queue").ok_or("no queue given")?);
    let queue = env.open().await?;
    loop {
        let message = Message::new("one of many");
        let id = message.id().clone();
        says(&format!("publishing {id}"))?;
        match queue.publish(&(&q).into(), vec![message]).await.and_then(|mut answers| answers.remove(0)) {
            Ok(_) => says(&format!("published {id}"))?,
            Err(error) => passing(&error)?,
        }
    }
}

/// Consumes until it is killed; its journal is ahead of each ack.
async fn consume(env: Env, args: Args) -> Outcome {
    let q = env.queue_name(args.get("queue").ok_or("no queue given")?);
    let queue = env.open().await?;
    let consumer = queue.subscribe(&stubborn(&env, &q)).await?;
    says("ready")?;
    loop {
        for delivery in consumer.receive(3, env.t(1.0)).await? {
            let id = delivery.message.id();
            says(&format!("took {id} {}", delivery.attempt))?;
            says(&format!("acking {id}"))?;
            let answer = settle_one(&*consumer, &delivery.receipt, Verdict::Ack).await?;
            says(&format!("acked {id} {answer:?}"))?;
        }
    }
}

/// Takes some, says so, and acks them after a while.
async fn hold(env: Env, args: Args) -> Outcome {
    let q = env.queue_name(args.get("queue").ok_or("no queue given")?);
    let queue = env.open().await?;
    let consumer = queue.subscribe(&stubborn(&env, &q)).await?;
    let mut held = Vec::new();
    while held.len() < HELD {
        for delivery in consumer.receive(HELD - held.len(), patience(&env)).await? {
            says(&format!("took {} {}", delivery.message.id(), delivery.attempt))?;
            held.push(delivery);
        }
    }
    sleep(brief(&env)).await;
    for delivery in &held {
        let answer = settle_one(&*consumer, &delivery.receipt, Verdict::Ack).await?;
        says(&format!("acked {} {answer:?}", delivery.message.id()))?;
    }
    Ok(())
}
