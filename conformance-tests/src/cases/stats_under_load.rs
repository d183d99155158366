//! Counts during load: never absurd, off by no more than the calls under way, exact when all is quiet.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::Duration;

use futures_util::future::{try_join, try_join_all};
use polyqueue::{Message, Queue, QueueName, QueueStats, Settled, Verdict};
use tokio::time::{Instant, sleep};

use super::hand::{Counts, PATIENCE, counts, settle_all, steady};
use crate::verbs::publish_one;
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

const PRODUCERS: i64 = 4;
const CONSUMERS: i64 = 8;
const MESSAGES: i64 = 2000;

/// What the clients know: calls that began and calls that returned.
#[derive(Default)]
struct Tally {
    publishing: AtomicI64,
    published: AtomicI64,
    received: AtomicI64,
    acking: AtomicI64,
    acked: AtomicI64,
}

/// A [`Tally`] at one moment.
#[derive(Clone, Copy)]
struct Seen {
    publishing: i64,
    published: i64,
    received: i64,
    acking: i64,
    acked: i64,
}

impl Tally {
    fn snapshot(&self) -> Seen {
        Seen {
            publishing: self.publishing.load(SeqCst),
            published: self.published.load(SeqCst),
            received: self.received.load(SeqCst),
            acking: self.acking.load(SeqCst),
            acked: self.acked.load(SeqCst),
        }
    }
}

async fn counts_are_never_absurd_under_load(env: Env) -> Outcome {
    let (queue, name) = env.declared("loaded").await?;
    let tally = Tally::default();
    let producers = try_join_all((0..PRODUCERS).map(|_| produce(&env, &name, &tally)));
    let consumers = try_join_all((0..CONSUMERS).map(|_| consume(&env, &name, &tally)));
    let (handles, _) = try_join(try_join(producers, consumers), watch(&queue, &name, &tally)).await?;
    let quiet = Instant::now();
    env.by(quiet, "exact counts once all is quiet", async || {
        counts(&queue.stats(&name).await?, Counts::default(), "quiet")
    })
    .await?;
    let (mut published, mut acked) = (0, 0);
    for handle in handles.0.iter().chain(&handles.1) {
        let counters = handle.stats(&name).await?.counters;
        published += counters.published;
        acked += counters.acked;
    }
    ensure_eq!(
        (published, acked),
        (MESSAGES as u64, MESSAGES as u64),
        "published and acked over all handles"
    );
    Ok(())
}

async fn produce(env: &Env, name: &QueueName, tally: &Tally) -> Result<Arc<dyn Queue>, Fail> {
    let (queue, mut rng) = (env.open().await?, env.rng());
    for _ in 0..MESSAGES / PRODUCERS {
        tally.publishing.fetch_add(1, SeqCst);
        publish_one(&queue, name, Message::new("load")).await?;
        tally.published.fetch_add(1, SeqCst);
        sleep(Duration::from_millis(rng.below(3))).await;
    }
    Ok(queue)
}

async fn consume(env: &Env, name: &QueueName, tally: &Tally) -> Result<Arc<dyn Queue>, Fail> {
    let (queue, mut rng) = (env.open().await?, env.rng());
    let consumer = queue.subscribe(&steady(env, name)).await?;
    let mut last = Instant::now();
    while tally.acked.load(SeqCst) < MESSAGES {
        let came = consumer.receive(1, env.t(1.0)).await?;
        if !came.is_empty() {
            last = Instant::now();
            tally.received.fetch_add(1, SeqCst);
            sleep(Duration::from_millis(rng.below(5))).await;
            tally.acking.fetch_add(1, SeqCst);
            settle_all(&*consumer, &came, |_| Verdict::Ack, Settled::Applied).await?;
            tally.acked.fetch_add(1, SeqCst);
        }
        ensure!(last.elapsed() < PATIENCE, "only {} of {MESSAGES} came", tally.acked.load(SeqCst));
    }
    Ok(queue)
}

/// Asks a hundred times a second until all is acked.
async fn watch(queue: &Arc<dyn Queue>, name: &QueueName, tally: &Tally) -> Outcome {
    let mut asked = 0;
    while tally.acked.load(SeqCst) < MESSAGES {
        let before = tally.snapshot();
        let stats = queue.stats(name).await?;
        possible(&stats, before, tally.snapshot())?;
        asked += 1;
        sleep(Duration::from_millis(10)).await;
    }
    ensure!(asked >= 10, "stats were asked only {asked} times during the load");
    Ok(())
}

/// Counts lie between what had returned before the question and what had begun when it was answered.
fn possible(stats: &QueueStats, before: Seen, after: Seen) -> Outcome {
    let ready = i64::try_from(stats.ready).unwrap_or(i64::MAX);
    let (fewest, most) = (before.published - after.received - CONSUMERS, after.publishing - before.received);
    ensure!((fewest..=most).contains(&ready), "{ready} ready, possible are {fewest} to {most}");
    ensure_eq!((stats.dead, stats.delayed.unwrap_or(0)), (0, 0), "dead and delayed");
    if let Some(in_flight) = stats.in_flight {
        let stored = ready.saturating_add(i64::try_from(in_flight).unwrap_or(i64::MAX));
        let (fewest, most) = (before.published - after.acking, after.publishing - before.acked);
        ensure!(
            (fewest..=most).contains(&stored),
            "{stored} ready or in flight, possible are {fewest} to {most}"
        );
    }
    Ok(())
}

pub(crate) const CASES: &[Case] = &[case!(
    "C-ADM-02",
    "under load counts are off by no more than the calls under way, then exact",
    ["S-ADM-1", "S-ADM-4"],
    Safety,
    [],
    counts_are_never_absurd_under_load
)];
