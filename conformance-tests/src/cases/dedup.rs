//! DDP: of messages with one key a queue stores one. Each case runs with the broker's own memory for keys, and with a store that
//! the application gives, where the backend takes one.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use polyqueue::{
    Dedup, DedupStore, Error, Message, MessageId, Overflow, Published, Purge, Queue, QueueName, QueueSpec,
    Reschedule, Settled, Verdict,
};
use tokio::time::{Instant, sleep, sleep_until};

use super::arrival::{Arrival, ack, patience, timed};
use super::crowd::in_tasks;
use super::fault::{fault_and_heal, kept_too_late};
use super::hand::lifetime;
use super::hand::{GRAIN, PATIENCE, brief, expiring, nothing_else_is_ready, redrive_all, settle_all, steady};
use super::keyed::{Clients, HOUR, duplicate, given, keyed, own, stored};
use super::route::{came_to, invalid};
use crate::dedup_store::KeysInMemory;
use crate::verbs::{dead_all, eventually, publish_any, publish_one, receive_none, receive_one, settle_one};
use crate::{Case, Env, Fault, Outcome, case, ensure, ensure_eq};

async fn the_first_of_a_key_is_stored(it: Clients) -> Outcome {
    let env = &it.env;
    let window = env.t(3.0).max(env.hiccups(12));
    let (queue, name) = it.declared("windowed", Dedup::window(window)).await?;
    let consumer = queue.subscribe(&steady(env, &name)).await?;
    let (first, published) = timed(stored(&queue, &name, keyed("k"))).await;
    let first = first?;
    for _ in 0..2 {
        duplicate(&queue, &name, "k", &first).await?;
    }
    let other = stored(&queue, &name, keyed("another é-😀")).await?;
    for id in [&first, &other] {
        let came = Arrival::acked(env, &*consumer).await?;
        ensure_eq!(came.delivery.message.id(), id, "what was stored");
        ensure!(
            came.delivery.message.dedup_key().is_some(),
            "its key is gone from {:?}",
            came.delivery.message
        );
    }
    duplicate(&queue, &name, "k", &first).await?;
    env.in_time_by("a look before the end of a window", published.inv, Instant::now(), window)?;
    let counters = queue.stats(&name).await?.counters;
    ensure_eq!((counters.published, counters.duplicates), (5, 3), "published, and duplicates among them");
    sleep_until(published.ret + window + GRAIN + env.lateness()).await;
    let again = stored(&queue, &name, keyed("k")).await?;
    ensure_eq!(Arrival::acked(env, &*consumer).await?.delivery.message.id(), &again, "after the window");
    in_one_batch_and_delayed(&queue, &name, env).await?;
    let plain = env.queue_name("plain");
    queue.declare(&plain.clone().into()).await?;
    invalid(publish_any(&queue, &plain, keyed("k")).await?, "dedup key")?;
    ensure_eq!(came_to(env, &queue, &plain).await?, [].into(), "what was stored of a refused message");
    Ok(())
}

/// The second of two in one batch is a duplicate of the first; a delayed message has its key from the publish on.
async fn in_one_batch_and_delayed(queue: &Arc<dyn Queue>, name: &QueueName, env: &Env) -> Outcome {
    let delayed = keyed("b").with_delay(env.t(1.0));
    let batch = vec![delayed, keyed("c"), keyed("b")];
    let ids: Vec<MessageId> = batch.iter().map(|message| message.id().clone()).collect();
    let answers = queue.publish(&name.into(), batch).await?;
    let answers: Vec<Published> = answers.into_iter().collect::<polyqueue::Result<_>>()?;
    let expected = [
        Published::stored(ids[0].clone()),
        Published::stored(ids[1].clone()),
        Published::duplicate(ids[2].clone(), ids[0].clone()),
    ];
    ensure_eq!(answers, expected, "the answers to a batch");
    let consumer = queue.subscribe(&steady(env, name)).await?;
    let mut came = BTreeSet::new();
    for _ in 0..2 {
        came.insert(Arrival::acked(env, &*consumer).await?.delivery.message.id().clone());
    }
    ensure_eq!(came, ids[..2].iter().cloned().collect(), "of the batch");
    nothing_else_is_ready(queue, name, &*consumer).await
}

async fn one_of_a_hundred_racers(it: Clients) -> Outcome {
    let (queue, name) = it.declared("raced", Dedup::window(HOUR)).await?;
    let handles = try_join_all((0..10).map(|_| it.open())).await?;
    for round in 0..5 {
        let key = format!("round {round}");
        let race = (0..100).map(|n| {
            let (queue, name, message) = (handles[n % 10].clone(), name.clone(), keyed(&key));
            async move { Ok(publish_any(&queue, &name, message).await??) }
        });
        let answers: Vec<Published> = in_tasks(race.collect::<Vec<_>>()).await?;
        let (winners, losers): (Vec<_>, Vec<_>) = answers.iter().partition(|it| it.duplicate_of.is_none());
        ensure_eq!(winners.len(), 1, "winners of {} racers", answers.len());
        let wrong = losers.iter().find(|it| it.duplicate_of.as_ref() != Some(&winners[0].id));
        ensure!(wrong.is_none(), "a loser was called a duplicate of somebody else: {wrong:?}");
        let consumer = queue.subscribe(&steady(&it.env, &name)).await?;
        let came = receive_one(&*consumer, PATIENCE).await?;
        ensure_eq!(came.message.id(), &winners[0].id, "the one that was stored");
        ack(&*consumer, &came).await?;
        nothing_else_is_ready(&queue, &name, &*consumer).await?;
    }
    Ok(())
}

async fn an_end_frees_the_key(it: Clients) -> Outcome {
    let env = &it.env;
    let spec = QueueSpec::new(env.queue_name("freed")).dedup(Dedup::window(HOUR)).bound(2, Overflow::Reject);
    let (queue, name) = it.declared_as(spec.clone()).await?;
    let consumer = queue.subscribe(&steady(env, &name)).await?;
    let too_large = keyed("k");
    let mut too_large = too_large.with_priority(polyqueue::Priority::LOWEST);
    too_large.set_payload(vec![0; env.info().limits.payload + 1]);
    invalid(publish_any(&queue, &name, too_large).await?, "payload")?;
    let first = stored(&queue, &name, keyed("k")).await?;
    stored(&queue, &name, keyed("l")).await?;
    for _ in 0..2 {
        let full = publish_any(&queue, &name, keyed("m")).await?;
        ensure!(matches!(full, Err(Error::Full { .. })), "a publish to a full queue answered {full:?}");
    }
    ensure_eq!(queue.purge(&name, Purge::Waiting).await?, 2, "purged");
    stored(&queue, &name, keyed("m")).await?;
    let second = stored(&queue, &name, keyed("k")).await?;
    ensure!(first != second, "one id twice");
    for (text, verdict) in
        [("rejected", Verdict::reject("no")), ("failed", Verdict::retry(Duration::ZERO, "no"))]
    {
        queue.purge(&name, Purge::Waiting).await?;
        stored(&queue, &name, keyed(text).with_max_attempts(NonZeroU32::MIN)).await?;
        let leased = vec![receive_one(&*consumer, PATIENCE).await?];
        settle_all(&*consumer, &leased, |_| verdict.clone(), Settled::Died).await?;
        let next = stored(&queue, &name, keyed(text)).await?;
        redrive_all(&queue, &name).await?;
        duplicate(&queue, &name, text, &next).await?;
    }
    queue.purge(&name, Purge::Waiting).await?;
    by_expiry(&it, &queue, &name).await?;
    queue.delete(&name).await?;
    queue.declare(&spec).await?;
    let anew = stored(&queue, &name, keyed("k")).await?;
    ensure_eq!(came_to(env, &queue, &name).await?, [anew].into(), "what came to the new queue");
    Ok(())
}

/// A message that expired has come to its end, too.
async fn by_expiry(it: &Clients, queue: &Arc<dyn Queue>, name: &QueueName) -> Outcome {
    let ttl = lifetime(&it.env);
    let (id, published) = timed(stored(queue, name, keyed("mortal").with_ttl(ttl))).await;
    let id = id?;
    sleep_until(published.ret + ttl + GRAIN + it.env.lateness()).await;
    eventually(&it.env, PATIENCE, "expired", || async {
        let dead = dead_all(queue, name).await?;
        Ok(dead.iter().any(|dead_letter| dead_letter.message().map(Message::id) == Some(&id)).then_some(()))
    })
    .await?;
    stored(queue, name, keyed("mortal")).await?;
    Ok(())
}

async fn what_comes_again_keeps_its_key(it: Clients) -> Outcome {
    let env = &it.env;
    let (queue, name) = it.declared("kept", Dedup::until_ack(HOUR)).await?;
    let consumer = queue.subscribe(&steady(env, &name)).await?;
    let first = stored(&queue, &name, keyed("k")).await?;
    for verdict in [
        Verdict::retry(Duration::ZERO, "again"),
        Verdict::Release { after: Duration::ZERO },
        Verdict::retry(env.t(1.0), "later"),
    ] {
        let leased = receive_one(&*consumer, patience(env)).await?;
        duplicate(&queue, &name, "k", &first).await?;
        ensure_eq!(settle_one(&*consumer, &leased.receipt, verdict).await?, Settled::Applied, "the verdict");
        duplicate(&queue, &name, "k", &first).await?;
    }
    let leased = receive_one(&*consumer, patience(env)).await?;
    ack(&*consumer, &leased).await?;
    let second = stored(&queue, &name, keyed("k")).await?;
    let forgetful = queue.subscribe(&expiring(env, &name)).await?;
    let forgotten = receive_one(&*forgetful, PATIENCE).await?;
    sleep_until(forgotten.lease_until + GRAIN + env.lateness()).await;
    let back = receive_one(&*forgetful, brief(env) + PATIENCE).await?;
    ensure_eq!((back.message.id(), back.attempt), (&second, 2), "what was forgotten");
    duplicate(&queue, &name, "k", &second).await?;
    ack(&*forgetful, &back).await?;
    stored(&queue, &name, keyed("k")).await?;
    ensure_eq!(queue.purge(&name, Purge::Waiting).await?, 1, "purged at the end");
    receive_none(&*consumer, Duration::ZERO).await
}

async fn a_key_outlives_the_broker(it: Clients) -> Outcome {
    let env = &it.env;
    let (queue, name) = it.declared("durable", Dedup::window(HOUR)).await?;
    let first = stored(&queue, &name, keyed("k")).await?;
    // What a broker may undo of its last moments is declared.
    let done = Instant::now();
    sleep(env.info().ack_window + env.lateness()).await;
    let killed = Instant::now();
    fault_and_heal(env, Fault::Kill9).await?;
    let start = Instant::now();
    let answer = loop {
        match publish_any(&queue, &name, keyed("k")).await? {
            Err(error) if error.is_transient() => sleep(env.t(0.2)).await,
            answer => break answer?,
        }
        ensure!(start.elapsed() < 2 * patience(env), "nothing could be published after the crash");
    };
    if answer.duplicate_of.is_none() && kept_too_late(env, done, killed) {
        return Ok(());
    }
    ensure_eq!(answer.duplicate_of, Some(first.clone()), "after the crash it is a duplicate of");
    let other = stored(&queue, &name, keyed("l")).await?;
    // What was there may have to be put back into its order first, and may come twice.
    let consumer = queue.subscribe(&steady(env, &name)).await?;
    let mut came = BTreeSet::new();
    while came.len() < 2 {
        came.insert(Arrival::acked(env, &*consumer).await?.delivery.message.id().clone());
    }
    ensure_eq!(came, [first, other].into(), "what is there after the crash");
    Ok(())
}

/// A cancelled message never was.
async fn a_cancelled_message_frees_its_key(env: Env) -> Outcome {
    let it = Clients::plain(env);
    let (queue, name) = it.declared("cancelled", Dedup::window(HOUR)).await?;
    let first = stored(&queue, &name, keyed("k").with_delay(HOUR)).await?;
    duplicate(&queue, &name, "k", &first).await?;
    ensure!(
        queue.reschedule(&name, &first, Reschedule::After(Duration::ZERO)).await?,
        "{first} was not there"
    );
    duplicate(&queue, &name, "k", &first).await?;
    let second = stored(&queue, &name, keyed("l").with_delay(HOUR)).await?;
    ensure!(queue.reschedule(&name, &second, Reschedule::Cancel).await?, "{second} was not there");
    let third = stored(&queue, &name, keyed("l")).await?;
    ensure_eq!(came_to(&it.env, &queue, &name).await?, [first, third].into(), "what came");
    Ok(())
}

/// Who remembers keys himself says so instead of not using the store.
async fn a_store_is_used_or_refused(env: Env) -> Outcome {
    let store: Arc<dyn DedupStore> = Arc::new(KeysInMemory::default());
    match env.try_open_with(|options| options.dedup_store(store)).await {
        Ok(_) => ensure!(true, "taken"),
        Err(error) => ensure!(matches!(error, Error::Unsupported { .. }), "a store was answered {error:?}"),
    }
    let (queue, name) = env.declared("as ever").await?;
    publish_one(&queue, &name, Message::new("as ever")).await?;
    Ok(())
}

/// The two cases of one body.
macro_rules! both_ways {
    ($own:ident, $given:ident, $body:path) => {
        async fn $own(env: Env) -> Outcome {
            own(env, |it| Box::pin($body(it))).await
        }

        async fn $given(env: Env) -> Outcome {
            given(env, |it| Box::pin($body(it))).await
        }
    };
}

both_ways!(first_by_itself, first_by_a_store, the_first_of_a_key_is_stored);
both_ways!(race_by_itself, race_by_a_store, one_of_a_hundred_racers);
both_ways!(freed_by_itself, freed_by_a_store, an_end_frees_the_key);
both_ways!(kept_by_itself, kept_by_a_store, what_comes_again_keeps_its_key);
both_ways!(crash_by_itself, crash_by_a_store, a_key_outlives_the_broker);

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-DDP-01",
        "inside its window a key is stored once, and the others are told of the first",
        ["S-DDP-1", "S-DDP-3", "S-ADM-4"],
        Safety,
        [],
        first_by_itself
    ),
    case!("C-DDP-02", "of a hundred racers one wins", ["S-DDP-2"], Safety, [], race_by_itself),
    case!(
        "C-DDP-03",
        "a failed publish, death, purge and delete free a key; a redriven message does not take it",
        ["S-DDP-3"],
        Safety,
        [],
        freed_by_itself
    ),
    case!(
        "C-DDP-04",
        "a key survives a crash of the broker",
        ["S-DDP-4"],
        Safety,
        [Durable, Faults],
        crash_by_itself
    ),
    case!(
        "C-DDP-05",
        "retry, release and the end of a lease keep a key; an ack frees it where so declared",
        ["S-DDP-3"],
        Safety,
        [],
        kept_by_itself
    ),
    case!(
        "C-DDP-06",
        "a cancelled message frees its key",
        ["S-DDP-3", "S-ADM-6"],
        Safety,
        [Reschedule],
        a_cancelled_message_frees_its_key
    ),
    case!(
        "C-DDP-07",
        "a store for keys is taken or refused, never ignored",
        ["S-DDP-1", "S-PUB-1"],
        Safety,
        [],
        a_store_is_used_or_refused
    ),
    case!(
        "C-DDP-11",
        "with a store: inside its window a key is stored once",
        ["S-DDP-1", "S-DDP-3"],
        Safety,
        [DedupStore],
        first_by_a_store
    ),
    case!(
        "C-DDP-12",
        "with a store: of a hundred racers one wins",
        ["S-DDP-2"],
        Safety,
        [DedupStore],
        race_by_a_store
    ),
    case!(
        "C-DDP-13",
        "with a store: an end frees a key",
        ["S-DDP-3"],
        Safety,
        [DedupStore],
        freed_by_a_store
    ),
    case!(
        "C-DDP-14",
        "with a store: a key survives a crash of the broker",
        ["S-DDP-4"],
        Safety,
        [DedupStore, Durable, Faults],
        crash_by_a_store
    ),
    case!(
        "C-DDP-15",
        "with a store: what comes again keeps its key",
        ["S-DDP-3"],
        Safety,
        [DedupStore],
        kept_by_a_store
    ),
];
