//! TOP: the copies of one message are messages of their own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Dedup, Message, MessageId, Published, Queue, QueueName, Settled, Verdict};
use tokio::time::{Instant, sleep_until};

use super::arrival::{Arrival, ack, timed};
use super::dead_letter::only_dead_letter;
use super::hand::{
    Counts, PATIENCE, brief, counts, expiring, lease_over, level, nothing_else_is_ready, steady,
};
use super::route::{bound, came_to, declare_bound, invalid, key};
use crate::verbs::{publish_all, publish_any, publish_one, receive_one, settle_one};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

async fn copies_live_and_die_alone(env: Env) -> Outcome {
    let queue = env.open().await?;
    let [acks, fails, forgets] = ["acks", "fails", "forgets"];
    let acks = declare_bound(&env, &queue, acks, &["news.#"]).await?;
    let fails = declare_bound(&env, &queue, fails, &["news.*"]).await?;
    let forgets = declare_bound(&env, &queue, forgets, &["#"]).await?;
    let id = publish_one(&queue, key("news.today")?, Message::new("news")).await?;
    let forgetful = queue.subscribe(&expiring(&env, &forgets)).await?;
    let forgotten = receive_one(&*forgetful, PATIENCE).await?;
    let over = lease_over(Instant::now(), brief(&env));
    let reader = queue.subscribe(&steady(&env, &acks)).await?;
    let came = receive_one(&*reader, PATIENCE).await?;
    ensure_eq!((came.message.id(), came.attempt), (&id, 1), "the copy that is acked");
    ack(&*reader, &came).await?;
    let failing = queue.subscribe(&steady(&env, &fails)).await?;
    for attempt in 1..=3 {
        let copy = receive_one(&*failing, PATIENCE).await?;
        ensure_eq!((copy.message.id(), copy.attempt), (&id, attempt), "the copy that fails");
        let expected = if attempt < 3 { Settled::Applied } else { Settled::Died };
        let verdict = Verdict::retry(Duration::ZERO, "no news");
        ensure_eq!(settle_one(&*failing, &copy.receipt, verdict).await?, expected, "retry {attempt}");
    }
    ensure_eq!((forgotten.message.id(), forgotten.attempt), (&id, 1), "the copy that is forgotten");
    sleep_until(over).await;
    let again = receive_one(&*forgetful, PATIENCE).await?;
    ensure_eq!((again.message.id(), again.attempt), (&id, 2), "the copy that was forgotten");
    ack(&*forgetful, &again).await?;
    let dead_letter = only_dead_letter(&queue, &fails).await?;
    ensure_eq!(
        (dead_letter.message().map(Message::id), &dead_letter.queue),
        (Some(&id), &fails),
        "the dead letter"
    );
    for (name, dead) in [(&acks, 0), (&fails, 1), (&forgets, 0)] {
        counts(&queue.stats(name).await?, Counts { dead, ..Counts::default() }, name.as_str())?;
    }
    for (name, consumer) in [(&acks, &reader), (&fails, &failing), (&forgets, &forgetful)] {
        nothing_else_is_ready(&queue, name, &**consumer).await?;
    }
    Ok(())
}

async fn options_hold_for_each_copy(env: Env) -> Outcome {
    let queue = env.open().await?;
    let names = [
        declare_bound(&env, &queue, "one", &["work.#"]).await?,
        declare_bound(&env, &queue, "two", &["work.now"]).await?,
    ];
    let delay = env.t(2.0);
    let options = [(2, delay), (9, delay), (5, Duration::ZERO)];
    let batch =
        options.map(|(priority, delay)| Message::new("").with_priority(level(priority)).with_delay(delay));
    let (sent, published) = timed(publish_all(&queue, key("work.now")?, batch.to_vec())).await;
    let sent = sent?;
    for name in &names {
        let consumer = queue.subscribe(&env.subscription(name)).await?;
        let first = Arrival::acked(&env, &*consumer).await?;
        ensure_eq!(first.delivery.message.id(), &sent[2], "what is there at once, in {name}");
    }
    for name in &names {
        env.by(published.ret + delay, "two copies that are due", async || {
            ensure_eq!(queue.stats(name).await?.ready, 2, "ready in {name}");
            Ok(())
        })
        .await?;
        let consumer = queue.subscribe(&env.subscription(name)).await?;
        for (nth, priority) in [(1, 9), (0, 2)] {
            let came = Arrival::acked(&env, &*consumer).await?;
            let seen = (came.delivery.message.id(), came.delivery.message.priority());
            ensure_eq!(seen, (&sent[nth], level(priority)), "in {name}");
            came.not_early(published, delay)?;
        }
    }
    Ok(())
}

/// Two queues that keep keys and one that does not, each reached alone and together.
async fn keys_are_kept_by_each_queue(env: Env) -> Outcome {
    let queue = env.open().await?;
    let window = Dedup::window(Duration::from_secs(600));
    let (one, two) =
        (bound(&env, "one", &["all"])?.dedup(window), bound(&env, "two", &["all"])?.dedup(window));
    let (both, plain) = (bound(&env, "both", &[])?, bound(&env, "plain", &["plain", "mixed"])?);
    let two = two.bind(polyqueue::Pattern::new("mixed")?);
    for spec in [&one, &two, &both, &plain] {
        queue.declare(spec).await?;
    }
    let keyed = || Message::new("once").with_dedup_key("k");
    let first = publish_one(&queue, &one.name, keyed()).await?;
    let second = publish_one(&queue, key("all")?, keyed()).await?;
    let third = duplicate(publish_any(&queue, key("all")?, keyed()).await??)?;
    ensure!([&first, &second].contains(&&third), "a duplicate of {third}, not of {first} or {second}");
    let mixed = publish_one(&queue, key("mixed")?, keyed()).await?;
    invalid(publish_any(&queue, key("plain")?, keyed()).await?, "dedup key")?;
    invalid(publish_any(&queue, &both.name, keyed()).await?, "dedup key")?;
    for (name, expected, duplicates) in [
        (&one.name, vec![&first], 2),
        (&two.name, vec![&second], 2),
        (&plain.name, vec![&mixed], 0),
        (&both.name, vec![], 0),
    ] {
        ensure_eq!(queue.stats(name).await?.counters.duplicates, duplicates, "duplicates of {name}");
        let expected: BTreeSet<MessageId> = expected.into_iter().cloned().collect();
        ensure_eq!(came_to(&env, &queue, name).await?, expected, "what came to {name}");
    }
    Ok(())
}

fn duplicate(published: Published) -> Result<MessageId, Fail> {
    published.duplicate_of.ok_or_else(|| "it was stored, though every queue has its key".into())
}

async fn a_delayed_copy_keeps_its_route(env: Env) -> Outcome {
    let queue = env.open().await?;
    let stays = declare_bound(&env, &queue, "stays", &["late.#"]).await?;
    let leaves = declare_bound(&env, &queue, "leaves", &["late.#"]).await?;
    let delay = env.t(2.0).max(env.hiccups(4));
    let (id, published) =
        timed(publish_one(&queue, key("late.one")?, Message::new("late").with_delay(delay))).await;
    let id = id?;
    queue.unbind(&leaves, &polyqueue::Pattern::new("late.#")?).await?;
    let joins = declare_bound(&env, &queue, "joins", &["late.#"]).await?;
    for name in [&stays, &leaves] {
        let arrival = next_of(&env, &queue, name).await?;
        arrival.not_early(published, delay)?;
        ensure_eq!(arrival.delivery.message.id(), &id, "in {name}");
    }
    ensure_eq!(came_to(&env, &queue, &joins).await?, [].into(), "what came to a queue that was bound later");
    Ok(())
}

async fn next_of(env: &Env, queue: &Arc<dyn Queue>, name: &QueueName) -> Result<Arrival, Fail> {
    let consumer = queue.subscribe(&env.subscription(name)).await?;
    Arrival::acked(env, &*consumer).await
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-TOP-04",
        "of three copies one is acked, one dies, one is forgotten and comes again: each alone",
        ["S-TOP-5", "S-ATT-1", "S-DLQ-1"],
        Safety,
        [],
        copies_live_and_die_alone
    ),
    case!(
        "C-TOP-05",
        "priority and delay hold for each copy",
        ["S-TOP-5", "S-PRI-4", "S-DLY-1"],
        Safety,
        [],
        options_hold_for_each_copy
    ),
    case!(
        "C-TOP-08",
        "each queue of a topic keeps its own dedup keys; where none does, a key is refused",
        ["S-DDP-4", "S-TOP-5", "S-ADM-4"],
        Safety,
        [],
        keys_are_kept_by_each_queue
    ),
    case!(
        "C-TOP-09",
        "a delayed message goes where its publish found queues bound",
        ["S-TOP-6", "S-DLY-1"],
        Safety,
        [],
        a_delayed_copy_keeps_its_route
    ),
];
