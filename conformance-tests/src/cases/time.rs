//! TIM: time belongs to the server; no client's wall clock decides.

use std::sync::Arc;

use chrono::TimeDelta;
use polyqueue::{Consumer, Message, Queue, QueueName, QueueSpec, Verdict};

use super::arrival::{Arrival, Span, ack, apply, attentive, timed};
use crate::verbs::publish_one;
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

async fn skewed(env: &Env, offset: TimeDelta) -> Result<Arc<dyn Queue>, Fail> {
    env.open_with(|options| options.clock_offset(offset)).await
}

async fn skewed_clocks_change_nothing(env: Env) -> Outcome {
    let fast = skewed(&env, TimeDelta::minutes(5)).await?;
    let slow = skewed(&env, TimeDelta::minutes(-5)).await?;
    let q = env.queue_name("skewed");
    fast.declare(&QueueSpec::new(q.clone())).await?;
    let from_fast = delay_and_lease_and_retry(&env, &fast, &slow, &q).await?;
    let from_slow = delay_and_lease_and_retry(&env, &slow, &fast, &q).await?;
    // The one thing that a sender's clock says is when it sent.
    let published_at = |arrival: &Arrival| arrival.delivery.message.published_at().ok_or("no published_at");
    let apart = published_at(&from_fast)? - published_at(&from_slow)?;
    let apart =
        apart + TimeDelta::from_std(from_slow.receive.ret - from_fast.receive.ret).unwrap_or_default();
    let off = (apart - TimeDelta::minutes(10)).abs();
    ensure!(off < TimeDelta::minutes(1), "the senders' clocks are 10 minutes apart, their messages {apart}");
    Ok(())
}

/// A delayed message of one client waits at the other for its delay, then for a lease that nobody ends, then for a retry.
async fn delay_and_lease_and_retry(
    env: &Env,
    sender: &Arc<dyn Queue>,
    reader: &Arc<dyn Queue>,
    q: &QueueName,
) -> Result<Arrival, Fail> {
    let (holder, waiter) = (attentive(env, sender, q).await?, attentive(env, reader, q).await?);
    let published = publish_delayed(env, sender, q, 2.0).await?;
    let first = Arrival::next(env, &*holder).await?;
    first.waited(env, published, env.t(2.0))?;
    let second = Arrival::next(env, &*waiter).await?;
    ensure_eq!(second.delivery.attempt, 2, "the attempt after the end of the lease");
    second.waited(env, first.receive, env.t(5.0))?;
    let retried = apply(&*waiter, &second.delivery, Verdict::retry(env.t(1.0), "again")).await?;
    let third = Arrival::acked(env, &*holder).await?;
    third.waited(env, retried, env.t(1.0))?;
    Ok(third)
}

async fn publish_delayed(env: &Env, queue: &Arc<dyn Queue>, q: &QueueName, ticks: f64) -> Result<Span, Fail> {
    let message = Message::new("by the server's clock").with_delay(env.t(ticks));
    let (id, published) = timed(publish_one(queue, q, message)).await;
    id?;
    Ok(published)
}

/// The clock of the clients jumps while something waits: before it they are an hour behind, after it an hour ahead, and
/// the other way round.
async fn a_jumping_clock_neither_hastens_nor_stalls(env: Env) -> Outcome {
    let (right, q) = env.declared("jump").await?;
    for hours in [-1, 1] {
        let before = skewed(&env, TimeDelta::hours(hours)).await?;
        let after = skewed(&env, TimeDelta::hours(-hours)).await?;
        let consumers = [attentive(&env, &before, &q).await?, attentive(&env, &after, &q).await?];
        let published = publish_delayed(&env, &before, &q, 4.0).await?;
        let (first, holder) = after_the_jump(&env, [&*consumers[0], &*consumers[1]], published, 4.0).await?;
        let retried = apply(holder, &first.delivery, Verdict::retry(env.t(4.0), "again")).await?;
        let (second, holder) = after_the_jump(&env, [&*consumers[1], &*consumers[0]], retried, 4.0).await?;
        ack(holder, &second.delivery).await?;
    }
    let stats = right.stats(&q).await?;
    ensure_eq!((stats.ready, stats.dead), (0, 0), "what is left");
    Ok(())
}

/// Waits for half of `ticks` at the first client and then at the second, which must get it in time. A machine that was
/// busy may have spent the time already: then the first has it, not early either.
async fn after_the_jump<'a>(
    env: &Env,
    [before, after]: [&'a dyn Consumer; 2],
    call: Span,
    ticks: f64,
) -> Result<(Arrival, &'a dyn Consumer), Fail> {
    let (came, receive) = timed(before.receive(1, env.t(ticks / 2.0))).await;
    let (arrival, holder) = match came?.pop() {
        Some(delivery) => (Arrival { delivery, receive }, before),
        None => (Arrival::next(env, after).await?, after),
    };
    arrival.waited(env, call, env.t(ticks))?;
    Ok((arrival, holder))
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-TIM-01",
        "clients whose clocks are ten minutes apart see the same delays, leases and retries",
        ["S-DLY-1", "S-DLY-2", "S-LSE-2", "S-RET-1", "S-DEL-5"],
        Both,
        [],
        skewed_clocks_change_nothing
    ),
    case!(
        "C-TIM-02",
        "a client's clock that jumps by an hour neither hastens nor stalls a wait",
        ["S-DLY-1", "S-DLY-2", "S-RET-1"],
        Both,
        [],
        a_jumping_clock_neither_hastens_nor_stalls
    ),
];
