//! ATT: how often a message was tried is known, and bounded.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Consumer, DeadReason, Message, MessageId, Queue, QueueName, Settled, Verdict, Worker};
use tokio::time::Instant;

use super::arrival::{Arrival, ack, apply, patience};
use super::crew::{Ending, Running, Starts};
use super::fault::{fault_and_heal, next_after_fault};
use super::hand::{hold, nothing_else_is_ready};
use super::priority::messages_at;
use crate::verbs::{dead_all, publish_all, publish_one, receive_none, settle_one};
use crate::{Case, Env, Fail, Fault, Outcome, case, ensure, ensure_eq};

fn max(attempts: u32) -> NonZeroU32 {
    NonZeroU32::new(attempts).unwrap_or(NonZeroU32::MIN)
}

async fn every_failure_counts_and_a_release_does_not(env: Env) -> Outcome {
    let (queue, q) = env.declared("counted").await?;
    publish_one(&queue, &q, Message::new("counted").with_max_attempts(max(9))).await?;
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    let first = attempt(&env, &*consumer, 1).await?;
    apply(&*consumer, &first.delivery, Verdict::retry(env.t(1.0), "retry")).await?;
    attempt(&env, &*consumer, 2).await?;
    let third = attempt(&env, &*consumer, 3).await?;
    apply(&*consumer, &third.delivery, Verdict::Release { after: Duration::ZERO }).await?;
    consumer.close().await?;
    let worker = Worker::new(queue.clone()).lease(env.t(5.0)).retry(env.policy()).timeout(env.t(1.0));
    let mut starts = Starts::new();
    let running = Running::start(starts.of(worker), &[q]);
    let released = starts.next(&env).await?;
    ensure_eq!(released.job.attempt, 3, "after the release");
    released.end(Ending::Panics)?;
    let panicked = starts.next(&env).await?;
    ensure_eq!(panicked.job.attempt, 4, "after the panic");
    let timed_out = starts.next(&env).await?;
    ensure_eq!(timed_out.job.attempt, 5, "after the handler's timeout");
    timed_out.end(Ending::Done)?;
    drop(panicked);
    let report = running.stop().await?;
    ensure_eq!((report.retried, report.acked), (2, 1), "what the worker did");
    Ok(())
}

async fn attempt(env: &Env, consumer: &dyn Consumer, n: u32) -> Result<Arrival, Fail> {
    let arrival = Arrival::next(env, consumer).await?;
    ensure_eq!(arrival.delivery.attempt, n, "the attempt");
    Ok(arrival)
}

async fn releases_count_nothing_and_wait_their_time(env: Env) -> Outcome {
    let (queue, q) = env.declared("released").await?;
    let consumer = queue.subscribe(&env.subscription(&q).max_attempts(max(1))).await?;
    publish_one(&queue, &q, Message::new("released")).await?;
    let mut arrival = attempt(&env, &*consumer, 1).await?;
    for n in 0..20 {
        let after = if n % 2 == 0 { env.t(0.2) } else { Duration::ZERO };
        let released = apply(&*consumer, &arrival.delivery, Verdict::Release { after }).await?;
        arrival = attempt(&env, &*consumer, 1).await?;
        arrival.waited(&env, released, after)?;
    }
    ensure_eq!(arrival.delivery.message.retries(), 0, "retries");
    ack(&*consumer, &arrival.delivery).await?;
    ensure_eq!(dead_all(&queue, &q).await?.len(), 0, "dead letters");
    Ok(())
}

async fn a_message_that_kills_its_consumers_dies(env: Env) -> Outcome {
    let (queue, q) = env.declared("poison").await?;
    let id = publish_one(&queue, &q, Message::new("poison")).await?;
    for n in 1..=3 {
        let mut child = env.child("crash_on_receipt", &[("queue", q.as_str())]).await?;
        let said = loop {
            let line = child
                .line()
                .await?
                .ok_or_else(|| format!("crash {n}: the child ended without a hand-out"))?;
            if line.starts_with("attempt ") {
                break line;
            }
        };
        ensure_eq!(said, format!("attempt {n}"), "the hand-out to child {n}");
        let status = child.wait().await?;
        ensure!(!status.success(), "the child did not crash: {status}");
    }
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    let end = Instant::now() + env.t(5.0) + patience(&env);
    while dead_all(&queue, &q).await?.is_empty() {
        ensure!(Instant::now() < end, "not dead after its third crash");
        receive_none(&*consumer, env.t(0.5)).await?;
    }
    died_of_attempts(&queue, &q, &id, 3).await?;
    nothing_else_is_ready(&queue, &q, &*consumer).await
}

/// There is one dead letter, it is that message, and this many attempts killed it.
async fn died_of_attempts(queue: &Arc<dyn Queue>, q: &QueueName, id: &MessageId, attempts: u32) -> Outcome {
    let dead = dead_all(queue, q).await?;
    ensure_eq!(dead.len(), 1, "dead letters");
    ensure_eq!(dead[0].message().map(Message::id), Some(id), "who died");
    ensure_eq!((dead[0].reason, dead[0].attempts), (DeadReason::MaxAttempts, attempts), "why");
    Ok(())
}

async fn one_attempt_means_no_retry(env: Env) -> Outcome {
    let (queue, q) = env.declared("once").await?;
    let consumer = queue.subscribe(&env.subscription(&q).max_attempts(max(1))).await?;
    let id = publish_one(&queue, &q, Message::new("once")).await?;
    fail_until_dead(&env, &*consumer, 1).await?;
    died_of_attempts(&queue, &q, &id, 1).await?;
    nothing_else_is_ready(&queue, &q, &*consumer).await
}

/// Fails a message until its last attempt, which must be the `last`.
async fn fail_until_dead(env: &Env, consumer: &dyn Consumer, last: u32) -> Outcome {
    for n in 1..=last {
        let arrival = attempt(env, consumer, n).await?;
        let verdict = Verdict::retry(Duration::ZERO, format!("failure {n}"));
        let settled = settle_one(consumer, &arrival.delivery.receipt, verdict).await?;
        let expected = if n == last { Settled::Died } else { Settled::Applied };
        ensure_eq!(settled, expected, "the answer to failure {n} of {last}");
    }
    Ok(())
}

async fn the_message_s_own_maximum_wins(env: Env) -> Outcome {
    for (name, own, subscription) in [("more", 5, 3), ("fewer", 2, 3)] {
        let (queue, q) = env.declared(name).await?;
        let consumer = queue.subscribe(&env.subscription(&q).max_attempts(max(subscription))).await?;
        let id = publish_one(&queue, &q, Message::new(name).with_max_attempts(max(own))).await?;
        fail_until_dead(&env, &*consumer, own).await?;
        died_of_attempts(&queue, &q, &id, own).await?;
        nothing_else_is_ready(&queue, &q, &*consumer).await?;
    }
    Ok(())
}

async fn who_allows_fewer_buries_nothing(env: Env) -> Outcome {
    let (queue, q) = env.declared("passer-by").await?;
    let id = publish_one(&queue, &q, Message::new("passer-by")).await?;
    let first = queue.subscribe(&env.subscription(&q).max_attempts(max(4))).await?;
    let failed = attempt(&env, &*first, 1).await?;
    apply(&*first, &failed.delivery, Verdict::retry(Duration::ZERO, "failure 1")).await?;
    first.close().await?;
    let passer_by = queue.subscribe(&env.subscription(&q).max_attempts(max(1))).await?;
    let handed = attempt(&env, &*passer_by, 2).await?;
    ensure_eq!(handed.delivery.max_attempts, 4, "the maximum that it goes on with");
    apply(&*passer_by, &handed.delivery, Verdict::retry(Duration::ZERO, "failure 2")).await?;
    // The end of a lease is a failure, too.
    let held = attempt(&env, &*passer_by, 3).await?;
    ensure_eq!(held.delivery.max_attempts, 4, "the maximum after a reader that allows fewer");
    let last = attempt(&env, &*passer_by, 4).await?;
    let answer =
        settle_one(&*passer_by, &last.delivery.receipt, Verdict::retry(Duration::ZERO, "failure 4")).await?;
    ensure_eq!(answer, Settled::Died, "the answer to the fourth failure");
    died_of_attempts(&queue, &q, &id, 4).await?;
    nothing_else_is_ready(&queue, &q, &*passer_by).await
}

async fn a_crash_of_the_broker_counts_for_those_in_flight_only(env: Env) -> Outcome {
    let (queue, q) = env.declared("crashed").await?;
    publish_all(&queue, &q, messages_at(3, 9)).await?;
    publish_all(&queue, &q, messages_at(10, 5)).await?;
    let holder = queue.subscribe(&env.subscription(&q)).await?;
    let leased = hold(&*holder, 3).await?;
    let attempts: Vec<u32> = leased.iter().map(|it| it.attempt).collect();
    ensure!(attempts.iter().all(|&it| it == 1), "attempts of first hand-outs: {attempts:?}");
    fault_and_heal(&env, Fault::Kill9).await?;
    let fresh = env.open().await?;
    let consumer = fresh.subscribe(&env.subscription(&q).max_attempts(max(9))).await?;
    // Where a crash may undo acks, nobody knows afterwards who had what: then it counts nothing.
    let least = if env.info().ack_window.is_zero() { 2 } else { 1 };
    for _ in 0..13 {
        let next = next_after_fault(&env, &*consumer).await?.delivery;
        let in_flight = leased.iter().any(|it| it.message.id() == next.message.id());
        let allowed = if in_flight { least..=3 } else { 1..=1 };
        ensure!(allowed.contains(&next.attempt), "attempt {}, in flight {in_flight}", next.attempt);
        ack(&*consumer, &next).await?;
    }
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-ATT-01",
        "a retry, the end of a lease, a panic and a handler's timeout count; a release does not",
        ["S-ATT-1", "S-ATT-2", "S-ATT-3"],
        Safety,
        [],
        every_failure_counts_and_a_release_does_not
    ),
    case!(
        "C-ATT-02",
        "twenty releases count nothing, kill nothing, and each waits its time",
        ["S-ATT-1", "S-DEL-3", "S-DLY-1"],
        Safety,
        [],
        releases_count_nothing_and_wait_their_time
    ),
    case!(
        "C-ATT-03",
        "a message that kills three processes is a dead letter, never a fourth hand-out",
        ["S-ATT-1", "S-ATT-2", "S-ATT-3"],
        Safety,
        [Shared],
        a_message_that_kills_its_consumers_dies
    ),
    case!(
        "C-ATT-04",
        "with one attempt a failure is a dead letter at once",
        ["S-ATT-3", "S-DLQ-1"],
        Safety,
        [],
        one_attempt_means_no_retry
    ),
    case!(
        "C-ATT-05",
        "a message's own maximum of attempts wins over the subscription's, either way",
        ["S-ATT-3"],
        Safety,
        [],
        the_message_s_own_maximum_wins
    ),
    case!(
        "C-ATT-06",
        "a crash of the broker counts an attempt for what was in flight, unless it may undo acks, and never for what was not",
        ["S-ATT-1", "S-ATT-2", "S-FLT-2"],
        Safety,
        [Durable, Faults],
        a_crash_of_the_broker_counts_for_those_in_flight_only
    ),
    case!(
        "C-ATT-07",
        "a reader that allows fewer attempts is handed what others tried, and buries nothing that they would try again",
        ["S-ATT-3"],
        Safety,
        [],
        who_allows_fewer_buries_nothing
    ),
];
