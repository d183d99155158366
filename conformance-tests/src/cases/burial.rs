//! Burials: a last attempt that nobody survives, and a burial that is cut off in its middle.

use std::num::NonZeroU32;
use std::sync::Arc;

use polyqueue::{Consumer, DeadReason, Delivery, Message, MessageId, Queue, QueueName, Verdict};
use tokio::time::Instant;

use super::dead_letter::only_letter;
use super::hand::{
    Counts, PATIENCE, brief, counts, drain_to_sentinel, expiring, lease_over, nothing_else_is_ready,
    redrive_all, steady, until,
};
use super::interrupt::Victim;
use crate::verbs::{dead_all, publish_one, receive_one};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

/// Who looks whether a message has died.
#[derive(Clone, Copy, Debug)]
enum Look {
    Stats,
    Listing,
}

async fn an_expired_last_attempt_is_buried(env: Env) -> Outcome {
    let (stats, listing, gone) = tokio::join!(
        buried_unasked(&env, "seen by stats", Look::Stats),
        buried_unasked(&env, "seen by listing", Look::Listing),
        buried_after_its_holder(&env),
    );
    stats.and(listing).and(gone)
}

/// Nobody receives, the holder stays: the message is dead within L of its lease's end, and not before.
async fn buried_unasked(env: &Env, name: &str, look: Look) -> Outcome {
    let (queue, name) = env.declared(name).await?;
    let consumer = queue.subscribe(&expiring(env, &name).consumer("sleeper")).await?;
    publish_one(&queue, &name, Message::new("once").with_max_attempts(NonZeroU32::MIN)).await?;
    let held = receive_one(&*consumer, PATIENCE).await?;
    let due = Instant::now() + brief(env);
    loop {
        let asked = Instant::now();
        let dead = match look {
            Look::Stats => queue.stats(&name).await?.dead,
            Look::Listing => dead_all(&queue, &name).await?.len() as u64,
        };
        if dead == 1 {
            ensure!(Instant::now() >= held.lease_until, "dead before the end of its lease");
            env.in_time(&format!("a death that is seen by {look:?}"), due, asked)?;
            break;
        }
        ensure!(asked < due + PATIENCE, "{look:?}: not dead {:?} after its lease", asked - due);
        tokio::time::sleep(env.t(0.1)).await;
    }
    let letter = only_letter(&queue, &name).await?;
    ensure_eq!((letter.reason, letter.attempts), (DeadReason::MaxAttempts, 1), "record");
    ensure_eq!(letter.consumer.as_deref(), Some("sleeper"), "consumer");
    counts(&queue.stats(&name).await?, Counts { dead: 1, ..Counts::default() }, "after the burial")
}

/// The holder goes away: the next receive buries the message at the latest, and never brings it.
async fn buried_after_its_holder(env: &Env) -> Outcome {
    let (queue, name) = env.declared("orphan").await?;
    let holder = env.open().await?;
    let consumer = holder.subscribe(&expiring(env, &name)).await?;
    publish_one(&queue, &name, Message::new("once").with_max_attempts(NonZeroU32::MIN)).await?;
    receive_one(&*consumer, PATIENCE).await?;
    let over = lease_over(Instant::now(), brief(env));
    drop(consumer);
    holder.close().await?;
    until(over).await;
    let next = queue.subscribe(&steady(env, &name)).await?;
    nothing_else_is_ready(&queue, &name, &*next).await?;
    let dead = queue.stats(&name).await?.dead;
    ensure_eq!(dead, 1, "dead after a receive");
    ensure_eq!(only_letter(&queue, &name).await?.reason, DeadReason::MaxAttempts, "reason");
    Ok(())
}

async fn a_cut_burial_loses_nothing(env: Env) -> Outcome {
    let (queue, name) = env.declared("cut").await?;
    let mut sent = Vec::new();
    let (victim, delivery) = burial(&env, &queue, &name, &mut sent).await?;
    let refusal = [(delivery.1.receipt, Verdict::reject("no"))];
    let (answer, cuts) = victim.rehearse(delivery.0.settle(&refusal)).await;
    answer?;
    for &cut in &cuts {
        let (victim, (consumer, delivery)) = burial(&env, &queue, &name, &mut sent).await?;
        let refusal = [(delivery.receipt, Verdict::reject("no"))];
        victim.cut(cut, consumer.settle(&refusal)).await;
        drop(consumer);
        victim.queue.close().await?;
    }
    until(lease_over(Instant::now(), brief(&env))).await;
    redrive_all(&queue, &name).await?;
    let copies = drain_to_sentinel(&env, &queue, &name).await?;
    for id in &sent {
        ensure!(copies.contains(id), "{id} is neither ready nor dead: lost");
    }
    let most = sent.len() + cuts.len();
    ensure!(
        copies.len() <= most,
        "{} copies of {} messages after {} cuts",
        copies.len(),
        sent.len(),
        cuts.len()
    );
    Ok(())
}

type Holder = (Box<dyn Consumer>, Delivery);

/// A victim with a message in hand.
async fn burial(
    env: &Env,
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    sent: &mut Vec<MessageId>,
) -> Result<(Victim, Holder), Fail> {
    let many = NonZeroU32::new(100).unwrap_or(NonZeroU32::MIN);
    sent.push(publish_one(queue, name, Message::new("body").with_max_attempts(many)).await?);
    let victim = Victim::open(env).await?;
    let consumer = victim.queue.subscribe(&expiring(env, name)).await?;
    let delivery = receive_one(&*consumer, PATIENCE).await?;
    Ok((victim, (consumer, delivery)))
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-DLQ-03",
        "a last attempt that ends with its lease is buried, whether or not anybody receives",
        ["S-ATT-3", "S-LSE-2", "S-DLQ-1"],
        Safety,
        [],
        an_expired_last_attempt_is_buried
    ),
    case!(
        "C-DLQ-05",
        "a burial cut off anywhere loses nothing",
        ["S-DLQ-2", "S-RDR-1"],
        Safety,
        [],
        a_cut_burial_loses_nothing
    ),
];
