//! Leases: one holder at a time, exactly as long as promised, and nothing to say for those who lost theirs.

use std::time::Duration;

use polyqueue::{Consumer, Delivery, Extended, Message, Receipt, Settled, Verdict};
use tokio::time::{Instant, sleep_until};

use super::hand::{
    PATIENCE, brief, expiring, hold, ids, lease_over, nothing_else_is_ready, numbered, once_each, settle_all,
    steady,
};
use crate::verbs::{publish_all, publish_one, receive_one, settle_one};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

/// What was received, and when the call that brought it began and returned.
struct Taken {
    began: Instant,
    delivery: Delivery,
    returned: Instant,
}

async fn take(consumer: &dyn Consumer, wait: Duration) -> Result<Taken, Fail> {
    let began = Instant::now();
    let delivery = receive_one(consumer, wait).await?;
    Ok(Taken { began, delivery, returned: Instant::now() })
}

async fn extend_one(consumer: &dyn Consumer, receipt: &Receipt) -> Result<Extended, Fail> {
    let mut answers = consumer.extend(std::slice::from_ref(receipt)).await?;
    ensure_eq!(answers.len(), 1, "answers to one extension");
    Ok(answers.remove(0)?)
}

async fn the_next_holder_waits_for_the_end_of_the_lease(env: Env) -> Outcome {
    let (queue, name) = env.declared("leased").await?;
    let other = env.open().await?;
    let lease = brief(&env);
    let (a, b) =
        (queue.subscribe(&expiring(&env, &name)).await?, other.subscribe(&expiring(&env, &name)).await?);
    publish_one(&queue, &name, Message::new("one at a time")).await?;
    let first = take(&*a, PATIENCE).await?;
    let (told, least, most) = (first.delivery.lease_until, first.began + lease, first.returned + lease);
    ensure!(told >= least, "the lease is said to end {:?} early", least - told);
    ensure!(told <= most, "the lease is said to end {:?} late", told - most);
    let second = take(&*b, lease + PATIENCE).await?;
    let early = told.saturating_duration_since(second.returned);
    ensure!(early.is_zero(), "handed out again {early:?} before the end of the lease");
    env.in_time("the hand-out after the end of a lease", first.returned + lease, second.returned)?;
    ensure_eq!(second.delivery.attempt, 2, "attempt");
    ensure_eq!(second.delivery.message.id(), first.delivery.message.id(), "message");
    ensure!(second.delivery.receipt != first.delivery.receipt, "the same receipt twice");
    ensure_eq!(settle_one(&*b, &second.delivery.receipt, Verdict::Ack).await?, Settled::Applied, "ack");
    Ok(())
}

async fn an_extended_lease_does_not_move(env: Env) -> Outcome {
    let (queue, name) = env.declared("extended").await?;
    let other = env.open().await?;
    let (a, b) =
        (queue.subscribe(&expiring(&env, &name)).await?, other.subscribe(&steady(&env, &name)).await?);
    publish_all(&queue, &name, numbered(10)).await?;
    let leased = hold(&*a, 10).await?;
    let start = Instant::now();
    let keep = async {
        for step in 1..=5 {
            sleep_until(start + brief(&env) * 2 * step / 5).await;
            let asked = Instant::now();
            let Extended::Until(end) = extend_one(&*a, &leased[0].receipt).await? else {
                return Err(Fail::from(format!("extension {step} answered LeaseLost")));
            };
            ensure!(end >= asked + brief(&env), "extended by {:?}, less than a lease", end - asked);
        }
        Ok(())
    };
    let (kept, moved) = tokio::join!(keep, hold(&*b, 9));
    kept?;
    let moved = moved?;
    ensure_eq!(moved.iter().map(|it| it.attempt).collect::<Vec<_>>(), [2; 9], "attempts");
    ensure_eq!(once_each(ids(&moved))?, ids(&leased[1..]).into_iter().collect(), "messages that moved");
    settle_all(&*b, &moved, |_| Verdict::Ack, Settled::Applied).await?;
    nothing_else_is_ready(&queue, &name, &*b).await?;
    ensure_eq!(
        settle_one(&*a, &leased[0].receipt, Verdict::Ack).await?,
        Settled::Applied,
        "ack of the kept one"
    );
    nothing_else_is_ready(&queue, &name, &*b).await
}

/// Every verdict there is, and their answers when the lease is lost.
async fn nothing_to_say(consumer: &dyn Consumer, lost: &Receipt) -> Outcome {
    let after = Duration::ZERO;
    for verdict in
        [Verdict::Ack, Verdict::retry(after, "late"), Verdict::Release { after }, Verdict::reject("late")]
    {
        let text = format!("late {verdict:?}");
        ensure_eq!(settle_one(consumer, lost, verdict).await?, Settled::LeaseLost, "{text}");
    }
    ensure_eq!(extend_one(consumer, lost).await?, Extended::LeaseLost, "late extension");
    Ok(())
}

async fn a_lost_lease_has_nothing_to_say(env: Env) -> Outcome {
    let (queue, name) = env.declared("lost").await?;
    let (a, b) =
        (queue.subscribe(&expiring(&env, &name)).await?, queue.subscribe(&steady(&env, &name)).await?);
    publish_one(&queue, &name, Message::new("fenced")).await?;
    let first = receive_one(&*a, PATIENCE).await?;
    let second = receive_one(&*b, brief(&env) + PATIENCE).await?;
    nothing_to_say(&*a, &first.receipt).await?;
    nothing_else_is_ready(&queue, &name, &*b).await?;
    ensure_eq!(queue.stats(&name).await?.dead, 0, "dead letters");
    ensure_eq!(settle_one(&*b, &second.receipt, Verdict::Ack).await?, Settled::Applied, "ack of the holder");
    nothing_to_say(&*a, &first.receipt).await?;
    nothing_else_is_ready(&queue, &name, &*a).await
}

async fn a_lease_that_nobody_took_over_is_lost_all_the_same(env: Env) -> Outcome {
    let (queue, name) = env.declared("untaken").await?;
    let consumer = queue.subscribe(&expiring(&env, &name)).await?;
    publish_one(&queue, &name, Message::new("late")).await?;
    let first = take(&*consumer, PATIENCE).await?;
    sleep_until(lease_over(first.returned, brief(&env))).await;
    let ack = settle_one(&*consumer, &first.delivery.receipt, Verdict::Ack).await?;
    ensure_eq!(ack, Settled::LeaseLost, "an ack after the end of the lease");
    let again = receive_one(&*consumer, PATIENCE).await?;
    ensure_eq!((again.message.id(), again.attempt), (first.delivery.message.id(), 2), "next hand-out");
    nothing_to_say(&*consumer, &first.delivery.receipt).await?;
    ensure_eq!(settle_one(&*consumer, &again.receipt, Verdict::Ack).await?, Settled::Applied, "ack in time");
    nothing_else_is_ready(&queue, &name, &*consumer).await
}

async fn an_extension_is_a_full_lease_from_now(env: Env) -> Outcome {
    let (queue, name) = env.declared("prolonged").await?;
    let lease = brief(&env);
    let (a, b) =
        (queue.subscribe(&expiring(&env, &name)).await?, queue.subscribe(&expiring(&env, &name)).await?);
    publish_one(&queue, &name, Message::new("long work")).await?;
    let first = take(&*a, PATIENCE).await?;
    sleep_until(first.began + lease * 4 / 5).await;
    let asked = Instant::now();
    let Extended::Until(end) = extend_one(&*a, &first.delivery.receipt).await? else {
        return Err("an extension in time answered LeaseLost".into());
    };
    let answered = Instant::now();
    ensure!(
        end >= asked + lease && end <= answered + lease,
        "extended by {:?}, other than a lease",
        end - asked
    );
    let second = take(&*b, lease + PATIENCE).await?;
    let early = end.saturating_duration_since(second.returned);
    ensure!(early.is_zero(), "handed out again {early:?} before the end of the extended lease");
    env.in_time("the hand-out after the end of an extended lease", answered + lease, second.returned)?;
    ensure_eq!(
        extend_one(&*a, &first.delivery.receipt).await?,
        Extended::LeaseLost,
        "extension of a lost lease"
    );
    sleep_until(lease_over(second.returned, lease)).await;
    let late = extend_one(&*b, &second.delivery.receipt).await?;
    ensure_eq!(late, Extended::LeaseLost, "extension after the end, nobody took it");
    let third = receive_one(&*b, PATIENCE).await?;
    ensure_eq!(third.attempt, 3, "attempt after two ends of leases");
    ensure_eq!(settle_one(&*b, &third.receipt, Verdict::Ack).await?, Settled::Applied, "ack");
    Ok(())
}

async fn a_name_may_be_shared(env: Env) -> Outcome {
    let (queue, name) = env.declared("namesakes").await?;
    let other = env.open().await?;
    let twin = expiring(&env, &name).consumer("twin");
    let (a, b) = (queue.subscribe(&twin).await?, other.subscribe(&twin).await?);
    publish_all(&queue, &name, numbered(4)).await?;
    let (of_a, of_b) = (hold(&*a, 2).await?, hold(&*b, 2).await?);
    once_each(ids(&of_a).into_iter().chain(ids(&of_b)))?;
    for (stranger, delivery) in [(&b, &of_a[0]), (&a, &of_b[0])] {
        nothing_to_say(&**stranger, &delivery.receipt).await?;
    }
    settle_all(&*a, &of_a[..1], |_| Verdict::Ack, Settled::Applied).await?;
    drop(a);
    let extended = extend_one(&*b, &of_b[0].receipt).await?;
    ensure!(extended != Extended::LeaseLost, "lost with its namesake's: {extended:?}");
    settle_all(&*b, &of_b, |_| Verdict::Ack, Settled::Applied).await?;
    let left = receive_one(&*b, brief(&env) + PATIENCE).await?;
    ensure_eq!(
        (left.message.id(), left.attempt),
        (of_a[1].message.id(), 2),
        "what the dropped consumer leased"
    );
    ensure_eq!(settle_one(&*b, &left.receipt, Verdict::Ack).await?, Settled::Applied, "ack of it");
    nothing_else_is_ready(&queue, &name, &*b).await
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-LSE-01",
        "the next holder gets it when the lease ends: not before, not much later, with a fresh receipt",
        ["S-LSE-1", "S-LSE-2", "S-LSE-3", "S-ATT-1"],
        Both,
        [],
        the_next_holder_waits_for_the_end_of_the_lease
    ),
    case!(
        "C-LSE-02",
        "of ten leases the one that is extended stays, nine move",
        ["S-LSE-1", "S-LSE-2", "S-LSE-4"],
        Safety,
        [],
        an_extended_lease_does_not_move
    ),
    case!(
        "C-LSE-03",
        "who lost its lease cannot ack, retry, release, dead-letter or extend what another holds",
        ["S-LSE-3", "S-DEL-2"],
        Safety,
        [],
        a_lost_lease_has_nothing_to_say
    ),
    case!(
        "C-LSE-04",
        "an ack after the end of the lease is LeaseLost even if nobody took over",
        ["S-LSE-3"],
        Safety,
        [],
        a_lease_that_nobody_took_over_is_lost_all_the_same
    ),
    case!(
        "C-LSE-06",
        "an extension is a full lease from now; after the end there is none",
        ["S-LSE-4", "S-LSE-2"],
        Both,
        [],
        an_extension_is_a_full_lease_from_now
    ),
    case!(
        "C-LSE-10",
        "two consumers of the same name have leases of their own",
        ["S-LSE-1", "S-LSE-3"],
        Safety,
        [],
        a_name_may_be_shared
    ),
];
