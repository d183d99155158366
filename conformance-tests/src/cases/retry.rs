//! RET: a failed message comes again after its wait, and carries why.

use std::num::NonZeroU32;
use std::time::Duration;

use polyqueue::{Backoff, Consumer, Failure, Message, RetryPolicy, Settled, Verdict};
use tokio::time::{Instant, sleep};

use super::arrival::{Arrival, Span, ack, apply, patience, timed};
use super::crowd::drain_in_batches;
use super::hand::{hold, numbered};
use crate::verbs::{publish_all, publish_one, settle_one};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

const SIX: NonZeroU32 = NonZeroU32::new(6).unwrap();

async fn waits_grow_up_to_their_cap(env: Env) -> Outcome {
    let (queue, q) = env.declared("backoff").await?;
    let consumer = queue.subscribe(&env.subscription(&q).max_attempts(SIX)).await?;
    publish_one(&queue, &q, Message::new("fails")).await?;
    let mut arrival = Arrival::next(&env, &*consumer).await?;
    for (attempt, ticks) in (1..).zip([1.0, 2.0, 4.0, 4.0, 4.0]) {
        ensure_eq!(arrival.delivery.attempt, attempt, "the attempt");
        // The wait counts from the verdict, not from the hand-out.
        sleep(env.t(0.5)).await;
        let verdict = env.policy().verdict(attempt, Failure::from("fails"), 0.0);
        let settled = apply(&*consumer, &arrival.delivery, verdict).await?;
        arrival = Arrival::next(&env, &*consumer).await?;
        arrival.waited(&env, settled, env.t(ticks))?;
    }
    ensure_eq!(arrival.delivery.attempt, 6, "the last attempt");
    let verdict = env.policy().verdict(6, Failure::from("fails"), 0.0);
    let settled = settle_one(&*consumer, &arrival.delivery.receipt, verdict).await?;
    ensure_eq!(settled, Settled::Died, "the answer to the last retry");
    Ok(())
}

async fn presets_are_tables(_: Env) -> Outcome {
    let default = [0, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30];
    let immediate = [0, 0, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30];
    for (policy, table) in [(RetryPolicy::default(), default), (RetryPolicy::immediate_first(), immediate)] {
        ensure_eq!(policy.max_attempts().get(), 4, "attempts");
        ensure_eq!(
            waits_before_attempts(&policy),
            table.map(Duration::from_secs),
            "waits before each attempt"
        );
    }
    Ok(())
}

/// What a policy waits before each of the first twelve attempts.
fn waits_before_attempts(policy: &RetryPolicy) -> [Duration; 12] {
    let mut waits = [Duration::ZERO; 12];
    for (failed, wait) in (1..).zip(&mut waits[1..]) {
        // A die may be cast: without jitter it changes nothing.
        if let Verdict::Retry { after, .. } = policy.verdict(failed, Failure::from("fails"), 0.7) {
            *wait = after;
        }
    }
    waits
}

async fn jitter_shortens_at_random(env: Env) -> Outcome {
    let four = Duration::from_secs(4);
    let backoff = Backoff::new(Duration::from_secs(1), 2.0, four)?.jitter(0.5)?;
    let mut rng = env.rng();
    let mut draws: Vec<Duration> = (0..10_000).map(|n| backoff.delay(3 + n % 5, rng.unit())).collect();
    draws.sort_unstable();
    let (least, most) = (draws[0], draws[draws.len() - 1]);
    ensure!(least >= four / 2 && most <= four, "waits of {least:?} to {most:?}");
    let mean = draws.iter().sum::<Duration>().as_secs_f64() / 10_000.0;
    let close = (mean - 3.0).abs() <= 0.05;
    ensure!(close, "a mean of {mean} s");
    draws.dedup();
    ensure!(draws.len() >= 100, "{} distinct waits", draws.len());
    Ok(())
}

async fn full_jitter_spreads_a_herd(env: Env) -> Outcome {
    const HERD: usize = 200;
    let (queue, q) = env.declared("herd").await?;
    let consumer = queue.subscribe(&env.subscription(&q).lease(env.t(100.0))).await?;
    publish_all(&queue, &q, numbered(HERD)).await?;
    // What is due within L may come together, so that L must be little of the spread that is judged.
    let base = env.t(10.0).max(env.hiccups(20));
    let failed = fail_together(&env, &*consumer, HERD, &Backoff::new(base, 1.0, base)?.jitter(1.0)?).await?;
    let mut came: Vec<Instant> = Vec::new();
    while came.len() < HERD {
        let arrival = Arrival::acked(&env, &*consumer).await?;
        let after = arrival.receive.ret - failed.inv;
        ensure!(after <= base + failed.took() + patience(&env), "came {after:?} after the failure");
        came.push(arrival.receive.ret);
    }
    let crowded = came.windows(HERD / 4 + 1).map(|some| some[HERD / 4] - some[0]).min().unwrap_or_default();
    let what = format!("more than a quarter came within {crowded:?}, the wait is up to {base:?}");
    // What a hiccup has held up comes together.
    let from = failed.ret;
    ensure!(crowded > base / 10 || env.excuses(&what, from, Instant::now(), base / 10 - crowded), "{what}");
    Ok(())
}

/// Receives `n` and retries them all in one call, each with its own throw of the dice.
async fn fail_together(
    env: &Env,
    consumer: &dyn Consumer,
    n: usize,
    backoff: &Backoff,
) -> Result<Span, Fail> {
    let (leased, mut rng) = (hold(consumer, n).await?, env.rng());
    let mut retry = || Verdict::retry(backoff.delay(1, rng.unit()), "all at once");
    let verdicts: Vec<_> = leased.into_iter().map(|delivery| (delivery.receipt, retry())).collect();
    let (answers, span) = timed(consumer.settle(&verdicts)).await;
    for answer in answers? {
        ensure_eq!(answer?, Settled::Applied, "the answer to a retry");
    }
    Ok(span)
}

async fn an_explicit_wait_overrides(env: Env) -> Outcome {
    let (queue, q) = env.declared("explicit").await?;
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    publish_one(&queue, &q, Message::new("fails")).await?;
    let mut arrival = Arrival::next(&env, &*consumer).await?;
    for (attempt, after) in [(1, env.t(3.0)), (2, Duration::ZERO)] {
        ensure_eq!(arrival.delivery.attempt, attempt, "the attempt");
        let verdict = env.policy().verdict(attempt, Failure::retry_after(after, "not before"), 0.0);
        let settled = apply(&*consumer, &arrival.delivery, verdict).await?;
        arrival = Arrival::next(&env, &*consumer).await?;
        arrival.waited(&env, settled, after)?;
    }
    ensure_eq!(arrival.delivery.attempt, 3, "a retry without a wait counts too");
    ack(&*consumer, &arrival.delivery).await
}

async fn a_retry_carries_its_error_and_changes_nothing_else(env: Env) -> Outcome {
    let (queue, q) = env.declared("error").await?;
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    let sent = Message::new(vec![0, 159, 146, 150])
        .with_kind("seed.one")
        .with_correlation_id("c-1")
        .with_header("unknown-to-us", "größe")
        .with_header("last_error", "the user's own");
    publish_one(&queue, &q, sent.clone()).await?;
    let first = Arrival::next(&env, &*consumer).await?.delivery;
    let before = (*first.message).clone().into_parts();
    ensure_eq!((before.last_error.as_deref(), before.retries), (None, 0), "before the first failure");
    ensure_eq!((&before.headers, &before.payload), (sent.headers(), sent.payload()), "what was sent");
    let mut leased = first;
    for (retries, error) in [(1, "boom α"), (2, "boom β")] {
        apply(&*consumer, &leased, Verdict::retry(Duration::ZERO, error)).await?;
        leased = Arrival::next(&env, &*consumer).await?.delivery;
        let mut after = (*leased.message).clone().into_parts();
        ensure_eq!((after.last_error.as_deref(), after.retries), (Some(error), retries), "after a failure");
        (after.last_error, after.retries) = (None, 0);
        ensure_eq!(after, before, "all other fields");
    }
    ack(&*consumer, &leased).await
}

async fn others_flow_while_one_waits(env: Env) -> Outcome {
    let (queue, q) = env.declared("flow").await?;
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    publish_one(&queue, &q, Message::new("fails")).await?;
    publish_all(&queue, &q, (0..100).map(|_| Message::new("good")).collect()).await?;
    let failing = Arrival::next(&env, &*consumer).await?;
    ensure_eq!(failing.text(), "fails", "the first");
    let wait = env.t(10.0);
    let settled = apply(&*consumer, &failing.delivery, Verdict::retry(wait, "later")).await?;
    let good = Arrival::acked(&env, &*consumer).await?;
    ensure_eq!(good.text(), "good", "the next");
    good.waited(&env, settled, Duration::ZERO)?;
    let rest = drain_in_batches(&env, &*consumer, 99, 1).await?;
    let in_between = Instant::now() < settled.inv + wait;
    let others = rest.iter().filter(|it| it.message.payload() == "good").count();
    ensure!(others == 99 || !in_between, "{others} good ones, and the failed one before its time");
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-RET-01",
        "retries wait 1, 2, 4, 4, 4 T: exactly, up to the cap",
        ["S-RET-1", "S-ATT-3"],
        Both,
        [],
        waits_grow_up_to_their_cap
    ),
    case!("C-RET-02", "the presets are their tables", ["S-RET-2"], Safety, [Nothing], presets_are_tables),
    case!(
        "C-RET-03",
        "jitter shortens waits at random, never above the cap",
        ["S-RET-1"],
        Safety,
        [Nothing],
        jitter_shortens_at_random
    ),
    case!(
        "C-RET-04",
        "full jitter spreads a herd of 200 that failed together",
        ["S-RET-1", "S-DLY-3"],
        Safety,
        [],
        full_jitter_spreads_a_herd
    ),
    case!(
        "C-RET-05",
        "an explicit wait overrides the policy, and none still counts",
        ["S-RET-3", "S-ATT-1"],
        Both,
        [],
        an_explicit_wait_overrides
    ),
    case!(
        "C-RET-06",
        "a retried message says why and how often, and changes in nothing else",
        ["S-RET-4", "S-DEL-5"],
        Safety,
        [],
        a_retry_carries_its_error_and_changes_nothing_else
    ),
    case!(
        "C-RET-07",
        "others flow while a failed message waits",
        ["S-STV-1"],
        Safety,
        [],
        others_flow_while_one_waits
    ),
];
