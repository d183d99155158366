//! Verdicts: each takes effect at most once, answers truly, and one bad item harms no other.

use std::time::Duration;

use polyqueue::{Consumer, Delivery, Error, Message, MessageId, Queue, QueueName, Receipt, Settled, Verdict};
use tokio::time::{Instant, sleep, sleep_until};

use super::fault::kept_too_late;
use super::hand::{
    PATIENCE, brief, drain_to_sentinel, expiring, hold, ids, lease_over, nothing_else_is_ready, numbered,
    once_each, settle_all, steady,
};
use crate::verbs::{eventually, poll_then_drop, publish_all, publish_one, receive_one, settle_one};
use crate::{Case, Env, Fail, Fault, Outcome, case, ensure, ensure_eq};

async fn an_ack_counts_once(env: Env) -> Outcome {
    let (queue, name) = env.declared("once").await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    publish_all(&queue, &name, numbered(3)).await?;
    let leased = hold(&*consumer, 3).await?;
    for answer in [Settled::Applied, Settled::AlreadySettled, Settled::AlreadySettled] {
        ensure_eq!(
            settle_one(&*consumer, &leased[0].receipt, Verdict::Ack).await?,
            answer,
            "one after the other"
        );
    }
    let ack = || settle_one(&*consumer, &leased[1].receipt, Verdict::Ack);
    let (one, two) = tokio::join!(ack(), ack());
    one_applied("two tasks at once", vec![one?, two?])?;
    let same = || (leased[2].receipt.clone(), Verdict::Ack);
    let answers = consumer.settle(&[same(), same(), same()]).await?;
    one_applied("one call", answers.into_iter().collect::<polyqueue::Result<_>>()?)?;
    let counters = queue.stats(&name).await?.counters;
    ensure_eq!((counters.published, counters.acked), (3, 3), "published and acked, as counted");
    nothing_else_is_ready(&queue, &name, &*consumer).await
}

/// Of several verdicts for one receipt one took effect and all others say so.
fn one_applied(how: &str, answers: Vec<Settled>) -> Outcome {
    let count = |wanted| answers.iter().filter(|&&answer| answer == wanted).count();
    let counted = (count(Settled::Applied), count(Settled::AlreadySettled));
    ensure_eq!(counted, (1, answers.len() - 1), "{how}: Applied and AlreadySettled of {answers:?}");
    Ok(())
}

async fn the_first_verdict_stands(env: Env) -> Outcome {
    let (queue, name) = env.declared("firm").await?;
    let elsewhere = env.queue_name("elsewhere");
    queue.declare(&elsewhere.clone().into()).await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    let stranger = queue.subscribe(&steady(&env, &elsewhere)).await?;
    publish_all(&queue, &name, numbered(2)).await?;
    let leased = hold(&*consumer, 2).await?;
    let retry = || Verdict::retry(Duration::ZERO, "again");
    let of = |i: usize| leased[i].receipt.clone();
    ensure_eq!(
        settle_one(&*stranger, &of(0), Verdict::Ack).await?,
        Settled::LeaseLost,
        "a foreign queue's receipt"
    );
    for (receipt, verdict, answer) in [
        (of(0), Verdict::Ack, Settled::Applied),
        (of(0), retry(), Settled::AlreadySettled),
        (of(0), Verdict::reject("no"), Settled::AlreadySettled),
        (of(1), retry(), Settled::Applied),
        (of(1), Verdict::Ack, Settled::AlreadySettled),
        (of(1), Verdict::reject("no"), Settled::AlreadySettled),
    ] {
        ensure_eq!(settle_one(&*consumer, &receipt, verdict.clone()).await?, answer, "{verdict:?}");
    }
    let again = receive_one(&*consumer, PATIENCE).await?;
    ensure_eq!((again.message.id(), again.attempt), (leased[1].message.id(), 2), "the retried one");
    ensure_eq!(
        settle_one(&*consumer, &of(1), Verdict::Ack).await?,
        Settled::AlreadySettled,
        "its old receipt"
    );
    ensure_eq!(
        settle_one(&*consumer, &again.receipt, Verdict::Ack).await?,
        Settled::Applied,
        "its new receipt"
    );
    nothing_else_is_ready(&queue, &name, &*consumer).await?;
    ensure_eq!(queue.stats(&name).await?.dead, 0, "dead letters");
    Ok(())
}

async fn each_item_has_its_own_answer(env: Env) -> Outcome {
    let (queue, name) = env.declared("mixed").await?;
    let consumer = queue.subscribe(&expiring(&env, &name)).await?;
    publish_all(&queue, &name, numbered(98)).await?;
    let stale = receive_one(&*consumer, PATIENCE).await?;
    sleep_until(lease_over(Instant::now(), brief(&env))).await;
    let leased = hold(&*consumer, 98).await?;
    once_each(ids(&leased))?;
    settle_all(&*consumer, &leased[..1], |_| Verdict::Ack, Settled::Applied).await?;
    let ack = |receipt: &Receipt| (receipt.clone(), Verdict::Ack);
    let mut verdicts: Vec<_> = leased[1..].iter().map(|it| ack(&it.receipt)).collect();
    verdicts.insert(31, ack(&stale.receipt));
    verdicts.insert(57, ack(&leased[0].receipt));
    verdicts.insert(83, ack(&Receipt::new("no backend made this \u{1F980}")));
    let answers = consumer.settle(&verdicts).await?;
    ensure_eq!(answers.len(), 100, "answers");
    for (i, answer) in answers.iter().enumerate() {
        match (i, answer) {
            (31, Ok(Settled::LeaseLost)) | (57, Ok(Settled::AlreadySettled)) => {}
            (83, Err(Error::Invalid { .. })) => {}
            (i, Ok(Settled::Applied)) if ![31, 57, 83].contains(&i) => {}
            (i, answer) => return Err(format!("item {i} of 100 answered {answer:?}").into()),
        }
    }
    nothing_else_is_ready(&queue, &name, &*consumer).await
}

async fn acks_out_of_order_settle_only_their_own(env: Env) -> Outcome {
    let (queue, name) = env.declared("shuffled").await?;
    let consumer = queue.subscribe(&expiring(&env, &name)).await?;
    publish_all(&queue, &name, numbered(20)).await?;
    let leased = hold(&*consumer, 20).await?;
    let mut order: Vec<usize> = (0..20).collect();
    env.rng().shuffle(&mut order);
    order.retain(|&i| i != 19 && i != 2);
    let (acked, left) = order.split_at(9);
    for &i in [19, 2].iter().chain(acked) {
        ensure_eq!(
            settle_one(&*consumer, &leased[i].receipt, Verdict::Ack).await?,
            Settled::Applied,
            "ack of {i}"
        );
    }
    sleep_until(lease_over(Instant::now(), brief(&env))).await;
    let again = drain_to_sentinel(&env, &queue, &name).await?;
    let unacked = left.iter().map(|&i| leased[i].message.id().clone()).collect();
    ensure_eq!(once_each(again)?, unacked, "what came back after the leases ended");
    Ok(())
}

async fn an_ack_survives_the_broker(env: Env) -> Outcome {
    let (queue, name) = env.declared("acked").await?;
    let faults = env.faults().await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    publish_all(&queue, &name, numbered(400)).await?;
    let leased = hold(&*consumer, 400).await?;
    let (old, young) = leased.split_at(200);
    acked(&*consumer, old).await?;
    let done = Instant::now();
    sleep(env.info().ack_window + env.lateness()).await;
    let acks = acked(&*consumer, young).await?;
    let killed = Instant::now();
    faults.apply(Fault::Kill9).await?;
    faults.heal().await?;
    let again = after_the_crash(&env, &queue, &name).await?;
    for delivery in &again {
        let id = delivery.message.id();
        if ids(old).contains(id) {
            let undone = kept_too_late(&env, done, killed);
            ensure!(undone, "{id} was acked before the window, and came again");
            continue;
        }
        let Some((_, acked)) = acks.iter().find(|(of, _)| of == id) else {
            return Err(format!("{id} was never published").into());
        };
        let age = killed - *acked;
        let young = age <= env.info().ack_window;
        ensure!(young || kept_too_late(&env, *acked, killed), "an ack {age:?} old was undone");
        // A crash that may undo acks counts nothing.
        ensure!(delivery.attempt <= 2, "attempt {} of a message whose ack was undone", delivery.attempt);
    }
    once_each(ids(&again))?;
    Ok(())
}

/// Acks one by one; when each was answered.
async fn acked(consumer: &dyn Consumer, leased: &[Delivery]) -> Result<Vec<(MessageId, Instant)>, Fail> {
    let mut acked = Vec::with_capacity(leased.len());
    for delivery in leased {
        settle_all(consumer, std::slice::from_ref(delivery), |_| Verdict::Ack, Settled::Applied).await?;
        acked.push((delivery.message.id().clone(), Instant::now()));
    }
    Ok(acked)
}

/// Everything that is ready after a crash: a message published now, of the lowest priority, is the last of it.
async fn after_the_crash(
    env: &Env,
    queue: &std::sync::Arc<dyn Queue>,
    name: &QueueName,
) -> Result<Vec<Delivery>, Fail> {
    let recovery = Duration::from_secs(30);
    eventually(env, recovery, "a publish after the crash", async || {
        let last = Message::new("last").with_kind("last").with_priority(polyqueue::Priority::LOWEST);
        Ok(publish_one(queue, name, last).await.ok())
    })
    .await?;
    let consumer = queue.subscribe(&steady(env, name)).await?;
    let mut again = Vec::new();
    loop {
        let came = hold(&*consumer, 1).await?;
        settle_all(&*consumer, &came, |_| Verdict::Ack, Settled::Applied).await?;
        if came[0].message.kind() == "last" {
            return Ok(again);
        }
        again.extend(came);
    }
}

async fn a_dropped_settle_has_an_effect_or_none(env: Env) -> Outcome {
    let (queue, name) = env.declared("dropped").await?;
    let other = env.open().await?;
    let consumer = queue.subscribe(&expiring(&env, &name)).await?;
    env.note_fault();
    publish_all(&queue, &name, numbered(2 * POLLS)).await?;
    let leased = hold(&*consumer, 2 * POLLS).await?;
    let mut done = Vec::new();
    for (i, delivery) in leased.iter().enumerate() {
        let verdict = [(delivery.receipt.clone(), Verdict::Ack)];
        let mut settled = poll_then_drop(consumer.settle(&verdict), i / 2).await.is_some();
        if i % 2 == 1 {
            let again = settle_one(&*consumer, &delivery.receipt, Verdict::Ack).await?;
            let expected = if settled {
                &[Settled::AlreadySettled][..]
            } else {
                &[Settled::Applied, Settled::AlreadySettled]
            };
            ensure!(expected.contains(&again), "after {} polls, repeated: {again:?}", i / 2);
            settled = true;
        }
        if settled {
            done.push(delivery.message.id().clone());
        }
    }
    sleep_until(lease_over(Instant::now(), brief(&env))).await;
    let again = once_each(drain_to_sentinel(&env, &other, &name).await?)?;
    let twice: Vec<_> = done.iter().filter(|id| again.contains(id)).collect();
    ensure!(twice.is_empty(), "settled Ok, and handed out again: {twice:?}");
    let strange: Vec<_> = again.iter().filter(|id| !ids(&leased).contains(id)).collect();
    ensure!(strange.is_empty(), "came and was never leased: {strange:?}");
    let acked = queue.stats(&name).await?.counters.acked;
    ensure!(
        acked <= 2 * POLLS as u64 - again.len() as u64,
        "{acked} acks counted, {} came back",
        again.len()
    );
    nothing_else_is_ready(&queue, &name, &*consumer).await
}

/// Polls after which a settle is dropped: 0, 1 … up to this; more than any backend takes.
const POLLS: usize = 12;

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-SET-01",
        "an ack takes effect once, is answered truly each time, and counts once",
        ["S-SET-1", "S-ADM-4"],
        Safety,
        [],
        an_ack_counts_once
    ),
    case!(
        "C-SET-02",
        "the first verdict stands; another queue's receipt has no effect",
        ["S-SET-1", "S-LSE-3"],
        Safety,
        [],
        the_first_verdict_stands
    ),
    case!(
        "C-SET-03",
        "of 100 verdicts in one call each has its own true answer",
        ["S-SET-3", "S-SET-1", "S-LSE-3"],
        Safety,
        [],
        each_item_has_its_own_answer
    ),
    case!(
        "C-SET-04",
        "acks out of order settle exactly their own messages",
        ["S-SET-3", "S-DEL-2", "S-LSE-2"],
        Safety,
        [],
        acks_out_of_order_settle_only_their_own
    ),
    case!(
        "C-SET-05",
        "an ack older than the declared window survives the broker's kill -9",
        ["S-SET-2", "S-FLT-2", "S-ATT-2"],
        Safety,
        [Durable, Faults],
        an_ack_survives_the_broker
    ),
    case!(
        "C-SET-06",
        "a settle that is dropped has taken effect or has none, and may be repeated",
        ["S-SET-1", "S-SET-2"],
        Safety,
        [],
        a_dropped_settle_has_an_effect_or_none
    ),
];
