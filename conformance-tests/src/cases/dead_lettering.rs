//! Dead-lettering: a last attempt that nobody survives, and a dead-lettering that is cut off in its middle.

use std::num::NonZeroU32;
use std::sync::Arc;

use polyqueue::{Consumer, DeadReason, Delivery, Message, MessageId, Queue, QueueName, Verdict};
use tokio::time::Instant;

use super::dead_letter::only_dead_letter;
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

async fn an_expired_last_attempt_is_dead_lettered(env: Env) -> Outcome {
    let (stats, listing, gone) = tokio::join!(
        dead_lettered_unasked(&env, "seen by stats", Look::Stats),
        dead_lettered_unasked(&env, "seen by listing", Look::Listing),
        dead_lettered_after_its_holder(&env),
    );
    stats.and(listing).and(gone)
}

/// Nobody receives, the holder stays: the message is dead within L of its lease's end, and not before.
async fn dead_lettered_unasked(env: &Env, name: &str, look: Look) -> Outcome {
    let (queue, name) = env.declared(name).await?;
    let consumer = queue.subscribe(&expiring(env, &name).consumer("sleeper")).await?;
    publish_one(&queue, &name, Message::new("once").with_max_attempts(NonZeroU32::MIN)).await?;
    let leased = receive_one(&*consumer, PATIENCE).await?;
    let due = Instant::now() + brief(env);
    loop {
        let asked = Instant::now();
        let dead = match look {
            Look::Stats => queue.stats(&name).await?.dead,
            Look::Listing => dead_all(&queue, &name).await?.len() as u64,
        };
        if dead == 1 {
            ensure!(Instant::now() >= leased.lease_until, "dead before the end of its lease");
            env.in_time(&format!("a death that is seen by {look:?}"), due, asked)?;
            break;
        }
        ensure!(asked < due + PATIENCE, "{look:?}: not dead {:?} after its lease", asked - due);
        tokio::time::sleep(env.t(0.1)).await;
    }
    let dead_letter = only_dead_letter(&queue, &name).await?;
    ensure_eq!((dead_letter.reason, dead_letter.attempts), (DeadReason::MaxAttempts, 1), "record");
    ensure_eq!(dead_letter.consumer.as_deref(), Some("sleeper"), "consumer");
    counts(&queue.stats(&name).await?, Counts { dead: 1, ..Counts::default() }, "after the death")
}

/// The holder goes away: the next receive dead-letters the message at the latest, and never brings it.
async fn dead_lettered_after_its_holder(env: &Env) -> Outcome {
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
    ensure_eq!(only_dead_letter(&queue, &name).await?.reason, DeadReason::MaxAttempts, "reason");
    Ok(())
}

async fn a_cut_dead_lettering_loses_nothing(env: Env) -> Outcome {
    let (queue, name) = env.declared("cut").await?;
    let mut sent = Vec::new();
    let (victim, delivery) = victim_with_delivery(&env, &queue, &name, &mut sent).await?;
    let refusal = [(delivery.1.receipt, Verdict::reject("no"))];
    let (answer, cuts) = victim.rehearse(delivery.0.settle(&refusal)).await;
    answer?;
    for &cut in &cuts {
        let (victim, (consumer, delivery)) = victim_with_delivery(&env, &queue, &name, &mut sent).await?;
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
async fn victim_with_delivery(
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
        "a last attempt that ends with its lease is dead-lettered, whether or not anybody receives",
        ["S-ATT-3", "S-LSE-2", "S-DLQ-1"],
        Safety,
        [],
        an_expired_last_attempt_is_dead_lettered
    ),
    case!(
        "C-DLQ-05",
        "a dead-lettering cut off anywhere loses nothing",
        ["S-DLQ-2", "S-RDR-1"],
        Safety,
        [],
        a_cut_dead_lettering_loses_nothing
    ),
];
