//! PRI: what strict priority starves, and what nothing else may.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Consumer, Message, MessageId, Queue, QueueName, QueueSpec, Verdict, Worker};
use tokio::time::{Instant, sleep};

use super::arrival::{Arrival, Span, ack, apply, timed};
use super::crew::{Running, Starts};
use super::hand::numbered;
use super::priority::messages_at;
use crate::verbs::{publish_all, publish_one};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

/// A feed that never ends: for each message that is handed out a fresh one is published before the ack.
struct Feed<'a> {
    env: &'a Env,
    queue: Arc<dyn Queue>,
    q: QueueName,
    consumer: Box<dyn Consumer>,
    level: u8,
    /// When each fresh one began to be published.
    published: BTreeMap<MessageId, Instant>,
}

impl<'a> Feed<'a> {
    /// Publishes the victim, a p5, has it retried after 1T, and begins to feed. Also answers when the retry was settled.
    async fn behind_a_retry(env: &'a Env, name: &str, feed: u8) -> Result<(Self, Span), Fail> {
        let (queue, q) = env.declared(name).await?;
        let consumer = queue.subscribe(&env.subscription(&q)).await?;
        publish_one(&queue, &q, Message::new("victim")).await?;
        let victim = Arrival::next(env, &*consumer).await?;
        publish_all(&queue, &q, messages_at(5, feed)).await?;
        let retried = apply(&*consumer, &victim.delivery, Verdict::retry(env.t(1.0), "later")).await?;
        Ok((Self { env, queue, q, consumer, level: feed, published: BTreeMap::new() }, retried))
    }

    /// One hand-out: of a fresh one that is replaced, or the victim.
    async fn turn(&mut self) -> Result<Arrival, Fail> {
        let arrival = Arrival::next(self.env, &*self.consumer).await?;
        if arrival.text() != "victim" {
            let (ids, published) = timed(publish_all(&self.queue, &self.q, messages_at(1, self.level))).await;
            self.published.extend(ids?.into_iter().map(|id| (id, published.inv)));
        }
        ack(&*self.consumer, &arrival.delivery).await?;
        sleep(self.env.t(0.02)).await;
        Ok(arrival)
    }
}

async fn a_retry_waits_behind_its_equals_not_for_ever(env: Env) -> Outcome {
    let (mut feed, retried) = Feed::behind_a_retry(&env, "equals", 5).await?;
    let ready = retried.ret + env.t(1.0);
    let due = ready + env.lateness();
    loop {
        let arrival = feed.turn().await?;
        if arrival.text() == "victim" {
            ensure_eq!(arrival.delivery.attempt, 2, "the attempt");
            return arrival.not_early(retried, env.t(1.0));
        }
        let fresh = feed.published.get(arrival.delivery.message.id());
        if let Some(&published) = fresh.filter(|&&published| published > due) {
            env.in_time("a retry that another overtook, which was published later", ready, published)?;
        }
    }
}

async fn a_low_priority_waits_while_a_higher_one_is_ready(env: Env) -> Outcome {
    let (mut feed, retried) = Feed::behind_a_retry(&env, "starved", 10).await?;
    let ready = Span { inv: retried.inv + env.t(1.0), ret: retried.ret + env.t(1.0) };
    let mut turns = 0;
    while turns < 300 || Instant::now() < ready.ret + env.lateness() + env.t(1.0) {
        ensure_eq!(feed.turn().await?.text(), "p10", "hand-out {turns} while a p10 is ready");
        turns += 1;
    }
    let (stats, asked) = timed(feed.queue.stats(&feed.q)).await;
    if let Some(oldest) = stats?.oldest {
        let (most, grain) = (asked.ret - ready.inv, Duration::from_millis(1));
        ensure!(oldest <= most + grain, "{oldest:?} old, not {most:?} at the most");
        // It was ready so long before it was asked for.
        env.in_time("a retry, by its age", ready.ret, asked.inv - oldest.saturating_sub(grain))?;
    }
    for text in ["p10", "p10", "p10", "p10", "p10", "victim"] {
        ensure_eq!(
            Arrival::acked(&env, &*feed.consumer).await?.text(),
            text,
            "what comes when the feed ends"
        );
    }
    Ok(())
}

async fn a_flooded_queue_leaves_the_other_its_share(env: Env) -> Outcome {
    const WINDOW: usize = 40;
    let (queue, flooded) = env.declared("flooded").await?;
    let quiet = env.queue_name("quiet");
    queue.declare(&QueueSpec::new(quiet.clone())).await?;
    publish_all(&queue, &flooded, numbered(400)).await?;
    publish_all(&queue, &quiet, numbered(40)).await?;
    let worker = Worker::new(queue.clone()).concurrency(1).lease(env.t(100.0));
    let mut starts = Starts::new();
    let running = Running::start(starts.of(worker), &[flooded, quiet.clone()]);
    // Both are at work before either goes on, so that it does not matter which subscription came first.
    let both = [starts.next(&env).await?, starts.next(&env).await?];
    ensure!(both[0].job.queue != both[1].job.queue, "one queue had two handlers, its concurrency is 1");
    let mut order: Vec<bool> = both.iter().map(|started| started.job.queue == quiet).collect();
    drop(both);
    while order.iter().filter(|&&it| it).count() < 40 {
        let started = starts.next(&env).await?;
        order.push(started.job.queue == quiet);
        sleep(Duration::from_millis(1)).await;
    }
    drop(starts);
    running.stop().await?;
    for window in order.windows(WINDOW) {
        let share = window.iter().filter(|&&it| it).count();
        ensure!(share * 4 >= WINDOW, "{share} of {WINDOW} hand-outs were the quiet queue's: {order:?}");
    }
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-PRI-10",
        "a flooded queue leaves the other queue of its worker its share",
        ["S-STV-1"],
        Safety,
        [],
        a_flooded_queue_leaves_the_other_its_share
    ),
    case!(
        "C-PRI-11",
        "a retried message waits behind its equals that were ready, and no longer",
        ["S-STV-1", "S-ORD-2"],
        Safety,
        [],
        a_retry_waits_behind_its_equals_not_for_ever
    ),
    case!(
        "C-PRI-12",
        "a low priority waits while a higher one is ready, and its age shows",
        ["S-PRI-1", "S-STV-1", "S-ADM-1"],
        Safety,
        [],
        a_low_priority_waits_while_a_higher_one_is_ready
    ),
];
