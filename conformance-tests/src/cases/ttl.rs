//! TTL: what has outlived its time is not handed out, it is dead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Consumer, DeadLetter, DeadReason, Delivery, Error, Message, MessageId, Queue, QueueName, Settled, Verdict,
};
use tokio::time::{Instant, sleep_until};

use super::arrival::{ack, attentive, timed};
use super::dead_letter::only_dead_letter;
use super::hand::{
    Counts, GRAIN, PATIENCE, brief, counts, expiring, hold, level, lifetime, nothing_else_is_ready, outlived,
    redrive_all, steady,
};
use super::route::invalid;
use crate::verbs::{
    dead_all, eventually, publish_all, publish_any, publish_one, receive_none, receive_one, settle_one,
};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

/// A record of a message that expired after so many hand-outs.
pub(super) fn expired(dead_letter: &DeadLetter, id: &MessageId, attempts: u32) -> Outcome {
    ensure_eq!(dead_letter.message().map(Message::id), Some(id), "the dead letter");
    ensure_eq!(dead_letter.reason, DeadReason::Expired, "its reason");
    ensure_eq!(dead_letter.attempts, attempts, "its attempts");
    ensure!(
        Some(dead_letter.died_at) >= dead_letter.first_published_at,
        "it died before it was published: {dead_letter:?}"
    );
    Ok(())
}

async fn nobody_reads_and_it_dies_in_time(env: Env) -> Outcome {
    let (queue, name) = env.declared("idle").await?;
    let ttl = lifetime(&env);
    let message = Message::new("mortal").with_ttl(ttl).with_priority(level(7)).with_header("a", "b");
    let (id, published) = timed(publish_one(&queue, &name, message.clone())).await;
    let id = id?;
    counts(&queue.stats(&name).await?, Counts { ready: 1, ..Counts::default() }, "alive")?;
    ensure_eq!(dead_all(&queue, &name).await?.len(), 0, "dead letters of the living");
    env.by(outlived(published, ttl), "the death of a message that nobody reads", async || {
        counts(&queue.stats(&name).await?, Counts { dead: 1, ..Counts::default() }, "after its time")
    })
    .await?;
    let dead_letter = only_dead_letter(&queue, &name).await?;
    expired(&dead_letter, &id, 0)?;
    ensure_eq!((dead_letter.error.as_str(), &dead_letter.queue), ("expired", &name), "error and queue");
    let kept = dead_letter.message().ok_or("the record holds no message")?;
    super::dead_letter::same_content(kept, &message)?;
    ensure_eq!(kept.ttl(), Some(ttl), "the ttl in the record");
    let died = dead_letter.died_at
        - dead_letter.first_published_at.ok_or("the record does not say when it began")?;
    ensure!(died.to_std().unwrap_or_default() + GRAIN >= ttl, "dead after {died}, its ttl was {ttl:?}");
    Ok(())
}

/// One that waits behind others that live on, of its own priority and of a higher one.
async fn not_only_at_the_head(env: Env) -> Outcome {
    let (queue, name) = env.declared("backlog").await?;
    let ttl = lifetime(&env);
    let long = |priority| Message::new("long").with_priority(level(priority));
    let mortal = |priority| Message::new("mortal").with_priority(level(priority)).with_ttl(ttl);
    let living = vec![long(10), long(10), long(5), long(5), mortal(5).with_ttl(Duration::from_secs(3600))];
    let living = publish_all(&queue, &name, living).await?;
    let (mortals, published) = timed(publish_all(&queue, &name, vec![mortal(5), mortal(1)])).await;
    let mortals = mortals?;
    sleep_until(outlived(published, ttl)).await;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    for id in &living {
        let came = receive_one(&*consumer, PATIENCE).await?;
        ensure_eq!(came.message.id(), id, "what lives");
        ack(&*consumer, &came).await?;
    }
    nothing_else_is_ready(&queue, &name, &*consumer).await?;
    all_expired(&env, &queue, &name, &mortals, 0).await
}

/// These have expired, and nothing else is there; whoever receives notices what nobody could before.
async fn all_expired(
    env: &Env,
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    ids: &[MessageId],
    attempts: u32,
) -> Outcome {
    let dead_letters = eventually(env, PATIENCE, "all expired", || async {
        let dead_letters = dead_all(queue, name).await?;
        Ok((dead_letters.len() == ids.len()).then_some(dead_letters))
    })
    .await?;
    let dead_letters: BTreeMap<_, _> = dead_letters
        .iter()
        .filter_map(|dead_letter| Some((dead_letter.message()?.id(), dead_letter)))
        .collect();
    for id in ids {
        let dead_letter = dead_letters.get(id).ok_or_else(|| format!("{id} is no dead letter"))?;
        expired(dead_letter, id, attempts)?;
    }
    Ok(())
}

async fn a_lease_goes_on_past_the_end(env: Env) -> Outcome {
    let (queue, name) = env.declared("in hand").await?;
    let ttl = lifetime(&env);
    let batch = ["acked", "retried", "released"].map(|text| Message::new(text).with_ttl(ttl));
    let (ids, published) = timed(publish_all(&queue, &name, batch.to_vec())).await;
    let ids = ids?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    let leased = hold(&*consumer, 3).await?;
    let forgotten = forgotten(&env, &queue, &name, ttl).await?;
    sleep_until(outlived(published, ttl) + env.t(1.0)).await;
    for dead_letter in dead_all(&queue, &name).await? {
        let its = dead_letter.message().map(Message::id);
        ensure!(its == Some(forgotten.message.id()), "dead in somebody's hands: {its:?}");
    }
    let verdicts = [
        (Verdict::Ack, Settled::Applied),
        (Verdict::retry(Duration::ZERO, "too late"), Settled::Died),
        (Verdict::Release { after: Duration::ZERO }, Settled::Applied),
    ];
    for (delivery, (verdict, expected)) in leased.iter().zip(verdicts) {
        let text = format!("{verdict:?} past the end");
        ensure_eq!(settle_one(&*consumer, &delivery.receipt, verdict).await?, expected, "{text}");
    }
    let over = forgotten.lease_until + GRAIN + env.lateness();
    sleep_until(over).await;
    receive_none(&*consumer, Duration::ZERO).await?;
    let dead_letters = eventually(&env, PATIENCE, "three expired", || async {
        let dead_letters = dead_all(&queue, &name).await?;
        Ok((dead_letters.len() == 3).then_some(dead_letters))
    })
    .await?;
    for (id, attempts) in [(&ids[1], 1), (&ids[2], 0), (forgotten.message.id(), 1)] {
        let of_it = |dead_letter: &&DeadLetter| dead_letter.message().map(Message::id) == Some(id);
        let dead_letter = dead_letters.iter().find(of_it).ok_or_else(|| format!("{id} is no dead letter"))?;
        expired(dead_letter, id, attempts)?;
    }
    nothing_else_is_ready(&queue, &name, &*consumer).await
}

/// One more, in the hands of somebody who lets its lease end.
async fn forgotten(
    env: &Env,
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    ttl: Duration,
) -> Result<Delivery, Fail> {
    let consumer: Box<dyn Consumer> = queue.subscribe(&expiring(env, name)).await?;
    publish_one(queue, name, Message::new("forgotten").with_ttl(ttl.min(brief(env) / 2))).await?;
    let delivery = receive_one(&*consumer, PATIENCE).await?;
    // Kept open for as long as the lease runs: a consumer that is gone may end it.
    let end = delivery.lease_until + env.lateness();
    tokio::spawn(async move {
        sleep_until(end).await;
        drop(consumer);
    });
    Ok(delivery)
}

async fn impossible_times_are_refused(env: Env) -> Outcome {
    let (queue, name) = env.declared("refused").await?;
    let (limit, second) = (env.info().limits.delay, env.t(1.0));
    for (ttl, delay) in [
        (Duration::ZERO, Duration::ZERO),
        (second, second),
        (second, 2 * second),
        (limit + Duration::from_millis(1), Duration::ZERO),
        (Duration::MAX, Duration::ZERO),
    ] {
        let message = Message::new("impossible").with_ttl(ttl).with_delay(delay);
        let answer = publish_any(&queue, &name, message).await?;
        invalid(answer, "ttl")?;
    }
    let batch = vec![Message::new("good"), Message::new("bad").with_ttl(Duration::ZERO)];
    match queue.publish(&(&name).into(), batch).await {
        Err(Error::Invalid { index, .. }) => ensure_eq!(index, Some(1), "the position that is named"),
        other => return Err(format!("a batch with a ttl of nothing answered {other:?}").into()),
    }
    let far = publish_one(&queue, &name, Message::new("far").with_ttl(limit)).await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    let came = receive_one(&*consumer, PATIENCE).await?;
    ensure_eq!((came.message.id(), came.message.ttl()), (&far, Some(limit)), "all that was stored");
    ack(&*consumer, &came).await?;
    nothing_else_is_ready(&queue, &name, &*consumer).await
}

/// The time runs on while a message is delayed, in hand, and between its attempts.
async fn it_counts_from_the_publish_all_the_time(env: Env) -> Outcome {
    let (queue, name) = env.declared("counting").await?;
    let consumer = attentive(&env, &queue, &name).await?;
    let ttl = lifetime(&env);
    let retried = Message::new("retried").with_ttl(ttl);
    let (retried, first) = timed(publish_one(&queue, &name, retried)).await;
    let delivery = receive_one(&*consumer, PATIENCE).await?;
    let beyond = Verdict::retry(2 * ttl, "much later");
    let settled = settle_one(&*consumer, &delivery.receipt, beyond).await?;
    ensure!(matches!(settled, Settled::Applied | Settled::Died), "the retry was answered {settled:?}");
    let retry = Instant::now();
    let delayed = Message::new("delayed").with_delay(ttl / 2).with_ttl(ttl);
    let (delayed, second) = timed(publish_one(&queue, &name, delayed)).await;
    let (retried, delayed) = (retried?, delayed?);
    // Nobody reads until both have ended: the retried one by its due time at the latest.
    let end = outlived(first, ttl).max(outlived(second, ttl)).max(retry + 2 * ttl + GRAIN);
    sleep_until(end + env.lateness()).await;
    receive_none(&*consumer, Duration::ZERO).await?;
    let dead_letters = eventually(&env, PATIENCE, "both expired", || async {
        let dead_letters = dead_all(&queue, &name).await?;
        Ok((dead_letters.len() == 2).then_some(dead_letters))
    })
    .await?;
    for (id, attempts) in [(&retried, 1), (&delayed, 0)] {
        let of_it = |dead_letter: &&DeadLetter| dead_letter.message().map(Message::id) == Some(id);
        let dead_letter = dead_letters.iter().find(of_it).ok_or_else(|| format!("{id} is no dead letter"))?;
        expired(dead_letter, id, attempts)?;
    }
    redriven_they_live_anew(&env, &queue, &name, ttl).await
}

async fn redriven_they_live_anew(
    env: &Env,
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    ttl: Duration,
) -> Outcome {
    redrive_all(queue, name).await?;
    let consumer = queue.subscribe(&steady(env, name)).await?;
    for delivery in hold(&*consumer, 2).await? {
        ensure_eq!((delivery.attempt, delivery.message.ttl()), (1, Some(ttl)), "attempt and ttl, redriven");
        ack(&*consumer, &delivery).await?;
    }
    nothing_else_is_ready(queue, name, &*consumer).await
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-TTL-01",
        "a message that nobody reads is dead when its time is over, without any traffic",
        ["S-TTL-1", "S-TTL-3", "S-DLQ-1", "S-DEL-5"],
        Both,
        [],
        nobody_reads_and_it_dies_in_time
    ),
    case!(
        "C-TTL-02",
        "one behind a backlog is never handed out after its time",
        ["S-TTL-1", "S-DEL-1"],
        Safety,
        [],
        not_only_at_the_head
    ),
    case!(
        "C-TTL-03",
        "a lease goes on past the end: an ack counts, a retry is the death of it",
        ["S-TTL-2", "S-SET-2"],
        Safety,
        [],
        a_lease_goes_on_past_the_end
    ),
    case!(
        "C-TTL-04",
        "no time, less than the delay, and more than the limit are refused",
        ["S-TTL-3", "S-VAL-4", "S-BAT-1"],
        Safety,
        [],
        impossible_times_are_refused
    ),
    case!(
        "C-TTL-05",
        "time runs on over a delay and between attempts; a redriven message lives anew",
        ["S-TTL-2", "S-TTL-3", "S-RDR-1"],
        Safety,
        [],
        it_counts_from_the_publish_all_the_time
    ),
];
