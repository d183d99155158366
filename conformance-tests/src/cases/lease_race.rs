//! Leases under races: acks at the very end, thousands that end at once, and whoever looks with stale eyes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures_util::future::join_all;
use polyqueue::{
    Consumer, Delivery, Extended, Message, MessageId, Queue, QueueName, Receipt, Settled, Verdict,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::hand::{
    PATIENCE, brief, drain_to_sentinel, expiring, hold, ids, level, nothing_else_is_ready, numbered,
    once_each, settle_all, steady,
};
use super::interrupt::{Hold, Victim};
use crate::verbs::{eventually, publish_all, publish_one, receive_one, settle_one};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

const RACES: usize = 1000;

async fn an_ack_that_races_the_end_wins_or_loses(env: Env) -> Outcome {
    let (queue, name) = env.declared("photo finish").await?;
    let other = env.open().await?;
    let consumer = queue.subscribe(&expiring(&env, &name)).await?;
    publish_all(&queue, &name, numbered(RACES)).await?;
    let leased = hold(&*consumer, RACES).await?;
    let (won, lost) = race(&env, &*consumer, &leased).await?;
    ensure_eq!(won.len() + lost.len(), RACES, "answers");
    ensure!(
        !env.virtual_time() || won.len().min(lost.len()) > 100,
        "no race: {} won, {} lost",
        won.len(),
        lost.len()
    );
    let over = leased.iter().map(|it| it.lease_until).max().unwrap_or_else(Instant::now);
    // How fast so many come back is not judged.
    sleep_until(over + env.lateness()).await;
    eventually(&env, PATIENCE, "what has lost its lease is ready", async || {
        Ok((queue.stats(&name).await?.ready >= lost.len() as u64).then_some(()))
    })
    .await?;
    let again = drain_to_sentinel(&env, &other, &name).await?;
    let (twice, never): (Vec<_>, Vec<_>) = (
        again.iter().filter(|&id| won.contains(id)).collect(),
        lost.iter().filter(|&id| !again.contains(id)).collect(),
    );
    ensure!(twice.is_empty(), "acked Ok and handed out again: {twice:?}");
    ensure!(never.is_empty(), "LeaseLost and not handed out again: {never:?}");
    once_each(again)?;
    Ok(())
}

/// Acks each message within a few milliseconds of the end of its lease; who won and who lost.
async fn race(
    env: &Env,
    consumer: &dyn Consumer,
    leased: &[Delivery],
) -> Result<(BTreeSet<MessageId>, BTreeSet<MessageId>), Fail> {
    let mut rng = env.rng();
    let spread = if env.virtual_time() { 3 } else { 20 };
    let acks = leased.iter().map(|it| {
        let early = Duration::from_millis(spread);
        let at = it.lease_until - early + Duration::from_millis(rng.below(2 * spread + 1));
        async move {
            sleep_until(at).await;
            Ok((it.message.id().clone(), settle_one(consumer, &it.receipt, Verdict::Ack).await?))
        }
    });
    let (mut won, mut lost) = (BTreeSet::new(), BTreeSet::new());
    for answer in join_all(acks).await {
        match answer {
            Ok((id, Settled::Applied)) => won.insert(id),
            Ok((id, Settled::LeaseLost)) => lost.insert(id),
            Ok((id, other)) => return Err(format!("the only ack of {id} answered {other:?}").into()),
            Err(fail) => return Err(fail),
        };
    }
    Ok((won, lost))
}

const CROWD: usize = 5000;

async fn a_crowd_of_ends_does_not_hold_up_the_fresh(env: Env) -> Outcome {
    let (queue, name) = env.declared("crowd").await?;
    let (holder, feeder) = (env.open().await?, env.open().await?);
    let lease = env.t(10.0).max(Duration::from_secs(2)).max(env.hiccups(20));
    let a = holder.subscribe(&env.subscription(&name).lease(lease)).await?;
    let low = numbered(CROWD).into_iter().map(|message| message.with_priority(level(1))).collect();
    publish_all(&queue, &name, low).await?;
    let leased = hold(&*a, CROWD).await?;
    let receipts: Vec<Receipt> = leased.iter().map(|it| it.receipt.clone()).collect();
    for answer in a.extend(&receipts).await? {
        let answer = answer?;
        ensure!(answer != Extended::LeaseLost, "before the crowd had gathered a lease was {answer:?}");
    }
    let end = Instant::now() + lease;
    let back = AtomicUsize::new(0);
    let (fresh, seen) =
        tokio::join!(feed(&env, &feeder, &name, end, &back), take_all(&env, &queue, &name, &back));
    let (fresh, seen) = (fresh?, seen?);
    let crowd: Vec<MessageId> =
        seen.iter().filter(|(it, _)| it.attempt == 2).map(|(it, _)| it.message.id().clone()).collect();
    ensure_eq!(once_each(crowd)?, ids(&leased).into_iter().collect(), "the crowd, on attempt 2");
    ensure_eq!(seen.len(), CROWD + fresh.len(), "hand-outs, with {} fresh ones", fresh.len());
    fresh_in_time(&env, end, &fresh, &seen)
}

/// Fresh ones came within 4 L of their publication. L is calibrated once more, by those that were published before the end:
/// this case is a load of its own.
fn fresh_in_time(
    env: &Env,
    end: Instant,
    fresh: &[(MessageId, Instant)],
    seen: &[(Delivery, Instant)],
) -> Outcome {
    let mut waits = Vec::with_capacity(fresh.len());
    for (id, published) in fresh {
        let Some((_, returned)) = seen.iter().find(|(it, _)| it.message.id() == id) else {
            return Err(format!("the fresh {id} never came").into());
        };
        waits.push((*published, returned.saturating_duration_since(*published)));
    }
    let calm = waits.iter().filter(|(published, _)| *published < end).map(|(_, wait)| *wait).max();
    let calm = calm.ok_or("none was published before the end of the leases")?;
    let bound = 4 * env.lateness().max(10 * calm);
    let what = format!("a fresh message of the crowded time ({calm:?} before it)");
    for (published, wait) in waits.iter().filter(|(published, _)| *published >= end) {
        env.in_time_by(&what, *published, *published + *wait, bound)?;
    }
    Ok(())
}

/// Fresh messages of usual priority: twenty before the end of the leases, then one every few milliseconds until all are back.
async fn feed(
    env: &Env,
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    end: Instant,
    back: &AtomicUsize,
) -> Result<Vec<(MessageId, Instant)>, Fail> {
    let mut fresh = Vec::new();
    let calm = end.saturating_duration_since(Instant::now()) / 21;
    while back.load(SeqCst) < CROWD {
        ensure!(Instant::now() < end + 2 * PATIENCE, "{} of {CROWD} are back", back.load(SeqCst));
        let id = publish_one(queue, name, Message::new("fresh")).await?;
        fresh.push((id, Instant::now()));
        let pause = if Instant::now() + calm < end { calm } else { env.lateness() / 4 };
        tokio::time::sleep(pause).await;
    }
    publish_one(queue, name, Message::new("end").with_priority(level(1)).with_kind("end")).await?;
    Ok(fresh)
}

/// Receives until the message of kind `end`, and tells when each came. A task beside it acks, so that a receive is always
/// waiting.
async fn take_all(
    env: &Env,
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    back: &AtomicUsize,
) -> Result<Vec<(Delivery, Instant)>, Fail> {
    let consumer = queue.subscribe(&steady(env, name)).await?;
    let (sender, mut received) = mpsc::unbounded_channel::<Vec<Delivery>>();
    let receiving = async {
        let (mut seen, mut ended) = (Vec::new(), false);
        while !ended {
            let came = consumer.receive(50, 4 * PATIENCE).await?;
            let returned = Instant::now();
            ensure!(!came.is_empty(), "nothing came any more after {} hand-outs", seen.len());
            back.fetch_add(came.iter().filter(|it| it.message.priority() == level(1)).count(), SeqCst);
            ended = came.iter().any(|it| it.message.kind() == "end");
            seen.extend(came.iter().filter(|it| it.message.kind() != "end").map(|it| (it.clone(), returned)));
            drop(sender.send(came));
        }
        drop(sender);
        Ok(seen)
    };
    let acking = async {
        while let Some(came) = received.recv().await {
            settle_all(&*consumer, &came, |_| Verdict::Ack, Settled::Applied).await?;
        }
        Ok(())
    };
    Ok(tokio::try_join!(receiving, acking)?.0)
}

async fn a_stale_look_resurrects_nothing(env: Env) -> Outcome {
    tokio::try_join!(
        acked_while_the_reaper_is_held_up(&env, Hold::Request),
        acked_while_the_reaper_is_held_up(&env, Hold::Answer),
        ack_is_held_up_over_the_end(&env, Hold::Request),
        ack_is_held_up_over_the_end(&env, Hold::Answer),
    )?;
    Ok(())
}

/// Who would take over is held up across the end of the lease, while the holder acks in time: it gets nothing.
async fn acked_while_the_reaper_is_held_up(env: &Env, hold: Hold) -> Outcome {
    let (queue, name) = env.declared(&format!("reaper {hold:?}")).await?;
    let lease = brief(env);
    let a = queue.subscribe(&env.subscription(&name).lease(lease)).await?;
    let victim = Victim::open(env).await?;
    let b = victim.queue.subscribe(&steady(env, &name)).await?;
    publish_one(&queue, &name, Message::new("once")).await?;
    let leased = receive_one(&*a, PATIENCE).await?;
    let ack = async {
        sleep_until(leased.lease_until - lease / 2).await;
        let answer = settle_one(&*a, &leased.receipt, Verdict::Ack).await;
        sleep_until(leased.lease_until + env.lateness()).await;
        answer
    };
    let (came, ack) = victim.held_up(hold, b.receive(1, lease + env.t(1.0)), ack).await;
    ensure_eq!(ack?, Settled::Applied, "ack in time");
    match came {
        Ok(came) => ensure_eq!(ids(&came), [], "{hold:?}: what came again after its ack"),
        // It was held up for longer than its deadline: it has brought nothing, and whether anything is left is seen next.
        Err(error) => {
            ensure!(error.is_transient(), "{hold:?}: the receive that was held up answered {error:?}")
        }
    }
    nothing_else_is_ready(&queue, &name, &*a).await
}

/// The ack is held up beyond the end of the lease: it has an effect or the message comes again, never both.
async fn ack_is_held_up_over_the_end(env: &Env, hold: Hold) -> Outcome {
    let (queue, name) = env.declared(&format!("ack {hold:?}")).await?;
    let lease = brief(env);
    let victim = Victim::open(env).await?;
    let a = victim.queue.subscribe(&env.subscription(&name).lease(lease)).await?;
    let b = queue.subscribe(&steady(env, &name)).await?;
    publish_one(&queue, &name, Message::new("once")).await?;
    let leased = receive_one(&*a, PATIENCE).await?;
    sleep_until(leased.lease_until - lease / 2).await;
    let meanwhile = b.receive(1, lease / 2 + env.t(1.0));
    let verdict = [(leased.receipt.clone(), Verdict::Ack)];
    let (answer, mut came) = victim.held_up(hold, a.settle(&verdict), meanwhile).await;
    let mut came = std::mem::take(came.as_mut().map_err(|e| e.clone())?);
    let late = b.receive(1, env.t(1.0)).await?;
    came.extend(late);
    for delivery in &came {
        ensure_eq!(delivery.message.payload().as_ref(), b"once", "payload of what came again");
    }
    ensure!(came.len() <= 1, "{hold:?}: it came {} times", came.len());
    match answer.map(|mut answers| answers.pop()) {
        Ok(Some(Ok(Settled::Applied))) => ensure!(came.is_empty(), "{hold:?}: acked Ok, and came again"),
        Ok(Some(Ok(Settled::LeaseLost))) => ensure_eq!(came.len(), 1, "{hold:?}: hand-outs after LeaseLost"),
        Ok(Some(Err(_))) | Err(_) => {}
        other => return Err(format!("{hold:?}: the ack answered {other:?}").into()),
    }
    settle_all(&*b, &came, |_| Verdict::Ack, Settled::Applied).await?;
    nothing_else_is_ready(&queue, &name, &*b).await
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-LSE-05",
        "an ack that races the end of its lease wins or loses, never both, never neither",
        ["S-LSE-1", "S-LSE-3", "S-SET-2", "S-DEL-2"],
        Safety,
        [],
        an_ack_that_races_the_end_wins_or_loses
    ),
    case!(
        "C-LSE-08",
        "5,000 leases that end at once all come back, once each, and hold up nobody",
        ["S-LSE-2", "S-STV-1", "S-PRI-4"],
        Safety,
        [],
        a_crowd_of_ends_does_not_hold_up_the_fresh
    ),
    case!(
        "C-LSE-09",
        "neither a stale reaper nor a delayed ack resurrects a message",
        ["S-LSE-3", "S-DEL-2", "S-SET-2"],
        Safety,
        [],
        a_stale_look_resurrects_nothing
    ),
];
