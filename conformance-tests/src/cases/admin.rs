//! Administration: counts that are exact when nothing moves and never absurd, purge and delete that do what they say.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Dedup, Error, Message, MessageId, Purge, Queue, QueueName, QueueSpec, Settled, Verdict};
use tokio::time::{Instant, sleep, sleep_until};

use super::hand::{
    Counts, PATIENCE, brief, counts, dead_letter_all, drain_to_sentinel, expiring, hold, ids, lease_over,
    nothing_else_is_ready, numbered, once_each, redrive_all, settle_all, steady,
};
use super::route::{key, pattern, reaches_nobody};
use crate::verbs::{publish_all, publish_any};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

/// A queue and what its counts must be.
struct Script {
    env: Env,
    queue: Arc<dyn Queue>,
    name: QueueName,
    model: Counts,
}

impl Script {
    /// One step is done and the model changed accordingly: the counts agree.
    async fn step(&mut self, what: &str, change: impl FnOnce(&mut Counts)) -> Outcome {
        change(&mut self.model);
        counts(&self.queue.stats(&self.name).await?, self.model, what)
    }

    /// The same for what happens by itself: the counts agree by `due` + L.
    async fn by(&mut self, due: Instant, what: &str, change: impl FnOnce(&mut Counts)) -> Outcome {
        change(&mut self.model);
        loop {
            let asked = Instant::now();
            match counts(&self.queue.stats(&self.name).await?, self.model, what) {
                Ok(()) => return self.env.in_time(what, due, asked),
                Err(fail) if asked > due + PATIENCE => return Err(fail),
                Err(_) => sleep(self.env.t(0.1)).await,
            }
        }
    }

    async fn oldest(&self, since: Instant) -> Outcome {
        let Some(age) = self.queue.stats(&self.name).await?.oldest else { return Ok(()) };
        let (seen, grain) = (Instant::now(), self.env.lateness());
        let most = seen - since;
        ensure!(age <= most + grain, "the oldest is {age:?} old, it was published {most:?} ago");
        // How old it is was said a while before this is seen.
        self.env.in_time("the age of the oldest", since + age, seen)
    }
}

async fn counts_follow_every_step(env: Env) -> Outcome {
    let (queue, name) = env.declared("counted").await?;
    // Steps that time makes lie so far apart that no hiccup swaps them.
    let pace = env.t(1.0).max(env.hiccups(3));
    let consumer = queue.subscribe(&env.subscription(&name).lease(7 * pace)).await?;
    let mut it =
        Script { env: env.clone(), queue: queue.clone(), name: name.clone(), model: Counts::default() };
    it.step("1 declared", |_| {}).await?;
    let published = Instant::now();
    publish_all(&queue, &name, numbered(5)).await?;
    it.step("2 five published", |model| model.ready += 5).await?;
    sleep(env.t(1.0)).await;
    it.oldest(published).await?;
    let delayed = numbered(2).into_iter().map(|message| message.with_delay(3 * pace)).collect();
    publish_all(&queue, &name, delayed).await?;
    it.step("3 two delayed", |model| model.delayed += 2).await?;
    let leased = hold(&*consumer, 3).await?;
    it.step("4 three received", |model| (model.ready, model.in_flight) = (2, 3)).await?;
    settle_all(&*consumer, &leased[..1], |_| Verdict::Ack, Settled::Applied).await?;
    it.step("5 one acked", |model| model.in_flight -= 1).await?;
    let retry = Verdict::retry(3 * pace, "later");
    settle_all(&*consumer, &leased[1..2], |_| retry.clone(), Settled::Applied).await?;
    let due = Instant::now() + 3 * pace;
    it.step("6 one retried later", |model| (model.in_flight, model.delayed) = (1, 3)).await?;
    settle_all(&*consumer, &leased[2..], |_| Verdict::reject("no"), Settled::Died).await?;
    it.step("7 one refused", |model| (model.in_flight, model.dead) = (0, 1)).await?;
    let leased = hold(&*consumer, 2).await?;
    let release = Verdict::Release { after: Duration::ZERO };
    settle_all(&*consumer, &leased[..1], |_| release.clone(), Settled::Applied).await?;
    it.step("8 two received, one released", |model| (model.ready, model.in_flight) = (1, 1)).await?;
    counts_follow_time(&mut it, due, leased[1].lease_until).await?;
    let counters = queue.stats(&name).await?.counters;
    let counted = (counters.published, counters.acked, counters.retried, counters.released, counters.died);
    ensure_eq!(counted, (7, 1, 1, 1, 1), "published, acked, retried, released, died");
    Ok(())
}

/// The second half of the script: what becomes due, what expires, and what an operator does then.
async fn counts_follow_time(it: &mut Script, due: Instant, expiry: Instant) -> Outcome {
    let (queue, name) = (it.queue.clone(), it.name.clone());
    it.by(due, "9 the delayed are due", |model| (model.ready, model.delayed) = (4, 0)).await?;
    it.by(expiry, "10 a lease ended", |model| (model.ready, model.in_flight) = (5, 0)).await?;
    redrive_all(&queue, &name).await?;
    it.step("11 the dead redriven", |model| (model.ready, model.dead) = (6, 0)).await?;
    ensure_eq!(queue.purge(&name, Purge::Waiting).await?, 6, "purged");
    it.step("12 purged", |model| model.ready = 0).await?;
    ensure_eq!(queue.stats(&name).await?.oldest, None, "oldest of none");
    Ok(())
}

async fn a_purge_spares_what_it_must(env: Env) -> Outcome {
    let (queue, name) = env.declared("purged").await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    let dead = dead_letter_all(&env, &queue, &name, numbered(2)).await?;
    publish_all(&queue, &name, numbered(3)).await?;
    let leased = hold(&*consumer, 3).await?;
    let delay = env.t(3.0);
    let delayed = numbered(5).into_iter().map(|message| message.with_delay(delay)).collect();
    let delayed = publish_all(&queue, &name, delayed).await?;
    let due = Instant::now() + delay;
    publish_all(&queue, &name, numbered(10)).await?;
    let spared = queue.stats(&name).await?.delayed.is_none();
    ensure_eq!(queue.purge(&name, Purge::Waiting).await?, if spared { 10 } else { 15 }, "purged");
    let after = Counts { in_flight: 3, dead: 2, delayed: if spared { 5 } else { 0 }, ready: 0 };
    counts(&queue.stats(&name).await?, after, "after the purge")?;
    let again = Verdict::retry(Duration::ZERO, "again");
    settle_all(&*consumer, &leased[..1], |_| Verdict::Ack, Settled::Applied).await?;
    settle_all(&*consumer, &leased[1..], |_| again.clone(), Settled::Applied).await?;
    let back = hold(&*consumer, 2).await?;
    ensure_eq!(once_each(ids(&back))?, ids(&leased[1..]).into_iter().collect(), "retried after the purge");
    settle_all(&*consumer, &back, |_| Verdict::Ack, Settled::Applied).await?;
    let expected = if spared { 5 } else { 0 };
    env.by(due, "what a purge has spared is ready when it is due", async || {
        ensure_eq!(queue.stats(&name).await?.ready, expected, "ready");
        Ok(())
    })
    .await?;
    let later = drain_to_sentinel(&env, &queue, &name).await?;
    let expected = if spared { delayed } else { vec![] };
    ensure_eq!(once_each(later)?, once_each(expected)?, "what came when the delayed were due");
    redrive_all(&queue, &name).await?;
    let redriven = drain_to_sentinel(&env, &queue, &name).await?;
    ensure_eq!(once_each(redriven)?, once_each(dead)?, "the dead, redriven");
    purge_of_the_dead(&env, &queue, &name).await?;
    purge_frees_keys(&env, &queue).await
}

/// What was purged can be published anew; what was in hand keeps its key.
async fn purge_frees_keys(env: &Env, queue: &Arc<dyn Queue>) -> Outcome {
    let spec = keyed(env);
    queue.declare(&spec).await?;
    let consumer = queue.subscribe(&steady(env, &spec.name)).await?;
    let message = |key: &str| Message::new("").with_dedup_key(key);
    publish_all(queue, &spec.name, vec![message("in hand")]).await?;
    let leased = hold(&*consumer, 1).await?;
    publish_all(queue, &spec.name, vec![message("a"), message("b")]).await?;
    ensure_eq!(queue.purge(&spec.name, Purge::Waiting).await?, 2, "purged, with keys");
    publish_all(queue, &spec.name, vec![message("a"), message("b")]).await?;
    let again = publish_any(queue, &spec.name, message("in hand")).await??;
    ensure_eq!(again.duplicate_of.as_ref(), Some(leased[0].message.id()), "duplicate of what is in hand");
    settle_all(&*consumer, &leased, |_| Verdict::Ack, Settled::Applied).await
}

/// A queue that keeps dedup keys for longer than the case lasts.
fn keyed(env: &Env) -> QueueSpec {
    QueueSpec::new(env.queue_name("keyed")).dedup(Dedup::window(Duration::from_secs(3600)))
}

async fn purge_of_the_dead(env: &Env, queue: &Arc<dyn Queue>, name: &QueueName) -> Outcome {
    dead_letter_all(env, queue, name, numbered(3)).await?;
    publish_all(queue, name, numbered(1)).await?;
    ensure_eq!(queue.purge(name, Purge::Dead).await?, 3, "dead letters purged");
    counts(&queue.stats(name).await?, Counts { ready: 1, ..Counts::default() }, "after the purge of the dead")
}

async fn a_racing_purge_counts_what_it_takes(env: Env) -> Outcome {
    let (queue, name) = env.declared("raced").await?;
    let producers = (0..4).map(|_| producer(&env, &name));
    let purges = async {
        let mut purged = 0;
        for _ in 0..10 {
            purged += queue.purge(&name, Purge::Waiting).await?;
            sleep(env.t(0.1)).await;
        }
        Ok(purged)
    };
    let (sent, purged) = tokio::try_join!(futures_util::future::try_join_all(producers), purges)?;
    let sent = once_each(sent.concat())?;
    let delivered = once_each(drain_to_sentinel(&env, &queue, &name).await?)?;
    ensure!(delivered.is_subset(&sent), "something was delivered that was never published");
    let accounted = (purged + delivered.len() as u64, delivered.len());
    ensure_eq!(accounted.0, sent.len() as u64, "{purged} purged and {} delivered", accounted.1);
    counts(&queue.stats(&name).await?, Counts::default(), "at the end")
}

/// Publishes 250 messages, five at a time.
async fn producer(env: &Env, name: &QueueName) -> Result<Vec<MessageId>, Fail> {
    let queue = env.open().await?;
    let mut sent = Vec::new();
    for _ in 0..50 {
        sent.extend(publish_all(&queue, name, numbered(5)).await?);
        sleep(env.t(0.02)).await;
    }
    Ok(sent)
}

async fn queues_are_listed_once(env: Env) -> Outcome {
    let (queue, name) = env.declared("b").await?;
    let (first, unknown) = (env.queue_name("a"), env.queue_name("never declared"));
    let other = env.open().await?;
    other.declare(&first.clone().into()).await?;
    queue.declare(&name.clone().into()).await?;
    other.declare(&name.clone().into()).await?;
    for handle in [&queue, &other] {
        let listed: Vec<QueueName> = handle.queues().await?.into_iter().map(|spec| spec.name).collect();
        ensure_eq!(listed, [first.clone(), name.clone()], "queues(), by name");
        counts(&handle.stats(&name).await?, Counts::default(), "an empty queue")?;
    }
    not_found(queue.stats(&unknown).await, &unknown)?;
    not_found(queue.purge(&unknown, Purge::Waiting).await, &unknown)?;
    not_found(queue.delete(&unknown).await, &unknown)?;
    not_found(queue.subscribe(&env.subscription(&unknown)).await, &unknown)?;
    not_found(queue.publish(&(&unknown).into(), numbered(1)).await, &unknown)?;
    queue.delete(&first).await?;
    let listed: Vec<QueueName> = other.queues().await?.into_iter().map(|spec| spec.name).collect();
    ensure_eq!(listed, [name], "queues() after a delete elsewhere");
    not_found(other.stats(&first).await, &first)
}

pub(super) fn not_found<T>(answer: polyqueue::Result<T>, unknown: &QueueName) -> Outcome {
    match answer {
        Err(Error::NotFound(name)) if name == *unknown => Ok(()),
        Err(other) => Err(format!("an unknown queue answered {other:?}").into()),
        Ok(_) => Err(format!("{unknown:?} is known").into()),
    }
}

async fn a_deleted_queue_leaves_no_ghost(env: Env) -> Outcome {
    let (queue, name) = env.declared("phoenix").await?;
    let consumer = queue.subscribe(&expiring(&env, &name)).await?;
    dead_letter_all(&env, &queue, &name, numbered(1)).await?;
    publish_all(&queue, &name, numbered(4)).await?;
    let leased = hold(&*consumer, 2).await?;
    let over = lease_over(Instant::now(), brief(&env));
    let delay = env.t(3.0);
    publish_all(
        &queue,
        &name,
        vec![Message::new("late").with_delay(delay), Message::new("later").with_delay(delay)],
    )
    .await?;
    queue.delete(&name).await?;
    not_found(queue.stats(&name).await, &name)?;
    queue.declare(&name.clone().into()).await?;
    counts(&queue.stats(&name).await?, Counts::default(), "declared again")?;
    let _ = consumer.settle(&[(leased[0].receipt.clone(), Verdict::retry(Duration::ZERO, "ghost"))]).await;
    let fresh = env.open().await?;
    let reader = fresh.subscribe(&steady(&env, &name)).await?;
    nothing_else_is_ready(&fresh, &name, &*reader).await?;
    sleep_until(over + env.lateness()).await;
    nothing_else_is_ready(&fresh, &name, &*reader).await?;
    counts(&fresh.stats(&name).await?, Counts::default(), "after delays and leases of the old one")?;
    delete_forgets_bindings_and_keys(&env, &queue, &fresh).await
}

async fn delete_forgets_bindings_and_keys(
    env: &Env,
    queue: &Arc<dyn Queue>,
    other: &Arc<dyn Queue>,
) -> Outcome {
    let spec = keyed(env);
    let topic = key("ghost")?;
    queue.declare(&spec.clone().bind(pattern("ghost")?).dead_max_len(3)).await?;
    let message = || Message::new("").with_dedup_key("k");
    publish_all(queue, &spec.name, vec![message()]).await?;
    queue.delete(&spec.name).await?;
    queue.declare(&spec).await?;
    ensure_eq!(other.queues().await?.iter().find(|it| it.name == spec.name), Some(&spec), "declared anew");
    for handle in [queue, other] {
        reaches_nobody(handle, &topic, Message::new("ghost")).await?;
    }
    let anew = publish_all(other, &spec.name, vec![message()]).await?;
    ensure_eq!(drain_to_sentinel(env, queue, &spec.name).await?, anew, "what is in the new queue");
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-ADM-01",
        "after each of twelve steps the counts equal the model's",
        ["S-ADM-1", "S-ADM-4", "S-LSE-2"],
        Safety,
        [],
        counts_follow_every_step
    ),
    case!(
        "C-ADM-03",
        "a purge takes what waits, says how much, and spares what is in hand or dead",
        ["S-ADM-2", "S-DEL-4", "S-DDP-3"],
        Safety,
        [],
        a_purge_spares_what_it_must
    ),
    case!(
        "C-ADM-04",
        "each message that races a purge is purged or delivered, and counted once",
        ["S-ADM-2", "S-DEL-1", "S-DEL-4"],
        Safety,
        [],
        a_racing_purge_counts_what_it_takes
    ),
    case!(
        "C-ADM-05",
        "queues are listed once by name; an unknown one is NotFound, an empty one empty",
        ["S-ADM-1", "S-PUB-2"],
        Safety,
        [],
        queues_are_listed_once
    ),
    case!(
        "C-ADM-09",
        "nothing of a deleted queue reaches a later one of its name",
        ["S-ADM-2", "S-DEL-4", "S-TOP-4", "S-DDP-3"],
        Safety,
        [],
        a_deleted_queue_leaves_no_ghost
    ),
];
