//! Workers: what becomes of failing handlers, dead letter hooks, schema versions and counters.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{
    Backoff, Bytes, Counters, Death, Failure, Job, Message, MessageId, Queue, RetryPolicy, Worker,
};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::crew::{Running, panics};
use super::hand::{Counts, PATIENCE, brief, counts, numbered};
use crate::verbs::{dead_all, eventually, publish_all, publish_one};
use crate::{Case, Env, Outcome, case, ensure, ensure_eq};

/// `attempts` attempts, T/2 apart.
pub(super) fn soon(env: &Env, attempts: u32) -> polyqueue::Result<RetryPolicy> {
    RetryPolicy::new(attempts, Backoff::new(env.t(0.5), 1.0, env.t(0.5))?)
}

/// What the hook of a worker has seen.
struct Obituary {
    queue: Arc<dyn Queue>,
    calls: AtomicU32,
    readable: Mutex<Vec<MessageId>>,
    gate: Semaphore,
    slow_one_done: AtomicU32,
}

/// Looks the record up, then panics at the first death and waits at a gate at the second.
async fn hook(seen: Arc<Obituary>, death: Death) {
    let call = seen.calls.fetch_add(1, SeqCst);
    let id = death.message.id();
    let dead_letters = match dead_all(&seen.queue, &death.queue).await {
        Ok(dead_letters) => dead_letters,
        Err(fail) => panics(format!("the hook cannot list the dead letters: {fail}")),
    };
    if dead_letters.iter().any(|dead_letter| dead_letter.message().is_some_and(|message| message.id() == id))
    {
        seen.readable.lock().push(id.clone());
    }
    match call {
        0 => panics("this hook was told to panic"),
        1 => {
            let _open = seen.gate.acquire().await;
            seen.slow_one_done.store(1, SeqCst);
        }
        _ => {}
    }
}

async fn hooks_harm_nobody(env: Env) -> Outcome {
    let (queue, name) = env.declared("mourned").await?;
    let seen = Arc::new(Obituary {
        queue: env.open().await?,
        calls: AtomicU32::new(0),
        readable: Mutex::default(),
        gate: Semaphore::new(0),
        slow_one_done: AtomicU32::new(0),
    });
    let hook_seen = seen.clone();
    let worker = Worker::new(queue.clone())
        .retry(soon(&env, 1)?)
        .concurrency(2)
        .on_others(
            |job: Job<Bytes>| async move { Err::<(), _>(Failure::fatal(format!("no {:?}", job.payload))) },
        )
        .on_dead_letter(move |death| hook(hook_seen.clone(), death));
    let running = Running::start(worker, std::slice::from_ref(&name));
    let sent = publish_all(&queue, &name, numbered(8)).await?;
    eventually(&env, PATIENCE, "eight deaths told", async || {
        Ok((seen.calls.load(SeqCst) >= 8 && seen.readable.lock().len() >= 8).then_some(()))
    })
    .await?;
    ensure_eq!(seen.slow_one_done.load(SeqCst), 0, "the slow hook, when all others had been told");
    seen.gate.add_permits(1);
    let report = running.stop().await?;
    ensure_eq!(seen.slow_one_done.load(SeqCst), 1, "the slow hook, when the worker had stopped");
    let told: BTreeSet<MessageId> = seen.readable.lock().iter().cloned().collect();
    ensure_eq!(told, sent.into_iter().collect(), "deaths told when their records were readable");
    ensure_eq!((report.died, report.handled), (8, 8), "died and handled, of the report");
    counts(&queue.stats(&name).await?, Counts { dead: 8, ..Counts::default() }, "at the end")
}

/// Everything that a handler can do wrong, once, and a job of three leases; the second attempt succeeds.
async fn misbehave(tick: Duration, lease: Duration, job: Job<Bytes>) -> Result<(), Failure> {
    if job.attempt > 1 {
        return Ok(());
    }
    match job.message.kind() {
        "panics" => panics(format!("boom {}", 1 + 1)),
        "panics oddly" => panics(42),
        "aborts" => {
            let inner = tokio::spawn(std::future::pending::<()>());
            inner.abort();
            Ok(inner.await?)
        }
        "blocks" => {
            std::thread::sleep(3 * tick);
            Err("blocked its thread".into())
        }
        "long" => {
            sleep(3 * lease).await;
            Ok(())
        }
        other => Err(format!("no such misbehaviour: {other}").into()),
    }
}

async fn a_misbehaving_handler_is_a_failure(env: Env) -> Outcome {
    let (queue, name) = env.declared("rough").await?;
    let starts = Arc::new(Mutex::new(Vec::new()));
    let (noted, tick, lease) = (starts.clone(), env.tick(), brief(&env));
    let worker =
        Worker::new(queue.clone()).retry(soon(&env, 3)?).lease(lease).on_others(move |job: Job<Bytes>| {
            noted.lock().push((
                job.message.kind().to_owned(),
                job.attempt,
                job.message.last_error().map(str::to_owned),
            ));
            misbehave(tick, lease, job)
        });
    let running = Running::start(worker, std::slice::from_ref(&name));
    // A blocked thread blocks a runtime that has but one; there nobody could keep the promise.
    let threads = Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread;
    let kinds = ["long", "panics", "panics oddly", "aborts", "blocks"];
    let kinds = &kinds[..if threads { 5 } else { 4 }];
    for &kind in kinds {
        publish_one(&queue, &name, Message::new("").with_kind(kind)).await?;
    }
    eventually(&env, PATIENCE + 4 * lease, "all done", async || {
        Ok((queue.stats(&name).await?.counters.acked == kinds.len() as u64).then_some(()))
    })
    .await?;
    let report = running.stop().await?;
    ensure_eq!(
        (report.acked, report.retried, report.lost),
        (kinds.len() as u64, kinds.len() as u64 - 1, 0),
        "report"
    );
    let starts = starts.lock().clone();
    for &kind in kinds {
        let mine: Vec<_> =
            starts.iter().filter(|(of, ..)| of == kind).map(|(_, n, error)| (*n, error)).collect();
        let attempts: Vec<u32> = mine.iter().map(|(attempt, _)| *attempt).collect();
        ensure_eq!(attempts, if kind == "long" { vec![1] } else { vec![1, 2] }, "attempts of {kind:?}");
        ensure!(
            kind == "long" || mine[1].1.as_ref().is_some_and(|text| !text.is_empty()),
            "{kind:?} left no error text: {mine:?}"
        );
        let text = mine.last().and_then(|(_, error)| error.as_deref()).unwrap_or_default();
        ensure!(kind != "panics" || text.contains("boom 2"), "the panic's text is {text:?}");
    }
    Ok(())
}

async fn counters_add_up(env: Env) -> Outcome {
    let (queue, name) = env.declared("metered").await?;
    let unit = env.t(0.05);
    let worker = Worker::new(queue.clone()).concurrency(10).on_others(move |job: Job<Bytes>| async move {
        sleep(unit * u32::from(job.payload[0])).await;
        Ok(())
    });
    let running = Running::start(worker, std::slice::from_ref(&name));
    let lengths: Vec<u8> = (0..100).map(|i| i % 10).collect();
    publish_all(&queue, &name, lengths.iter().map(|&length| Message::new(vec![length])).collect()).await?;
    let mut last = Counters::default();
    while last.acked < 100 {
        let now = queue.stats(&name).await?.counters;
        let pairs = [(last.published, now.published), (last.acked, now.acked), (last.retried, now.retried)];
        ensure!(
            pairs.iter().all(|(before, after)| before <= after) && last.busy <= now.busy,
            "{last:?}, then {now:?}"
        );
        last = now;
        sleep(unit).await;
    }
    running.stop().await?;
    let sum = unit * lengths.iter().map(|&length| u32::from(length)).sum::<u32>();
    let rest = (last.published, last.acked, last.retried, last.released, last.died);
    ensure_eq!(rest, (100, 100, 0, 0, 0), "published, acked, retried, released, died");
    ensure!(last.busy >= sum, "busy for {:?}, the jobs took {sum:?}", last.busy);
    ensure!(last.busy <= sum + 100 * env.lateness(), "busy for {:?}, the jobs took {sum:?}", last.busy);
    ensure!(
        !env.virtual_time() || last.busy == sum,
        "in virtual time {:?} is not exactly {sum:?}",
        last.busy
    );
    ensure_eq!(last.mean_busy(), Some(last.busy / 100), "mean");
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-DLQ-04",
        "the hook hears of each death once its record is readable; a panicking or slow one stops nobody",
        ["S-DLQ-3", "S-DLQ-2"],
        Safety,
        [],
        hooks_harm_nobody
    ),
    case!(
        "C-ADM-08",
        "counters and the mean time are monotone and right",
        ["S-ADM-4"],
        Safety,
        [],
        counters_add_up
    ),
    case!(
        "C-LIF-05",
        "a handler that panics, aborts or blocks has failed; the worker and other leases live",
        ["S-LSE-5", "S-ATT-1", "S-RET-4"],
        Safety,
        [],
        a_misbehaving_handler_is_a_failure
    ),
];
