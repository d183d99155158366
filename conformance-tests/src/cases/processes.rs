//! FLT: processes that are stopped, or killed, with messages in hand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use polyqueue::{Consumer, QueueName};
use tokio::time::{Instant, timeout_at};

use super::arrival::{ack, patience};
use super::hand::{brief, numbered};
use super::traffic::stubborn;
use crate::roles::HELD;
use crate::verbs::publish_all;
use crate::{Case, Child, Env, Fail, Outcome, case, ensure, ensure_eq};

/// Kills of each kind; more on a machine so slow that by then nothing was acked, after ever longer lives.
const KILLS: u32 = 3;
const MOST_KILLS: u32 = 12;
/// How long a process lives at most after its first word, at first.
const LIFETIME: Duration = Duration::from_millis(600);
/// How long a broker may take to miss a process that is stopped, when the lease is shorter, and to notice that it does.
const MISSED_WITHIN: Duration = Duration::from_secs(3);
const NOTICED_WITHIN: Duration = Duration::from_secs(2);

async fn a_stopped_consumer_loses_what_it_holds(env: Env) -> Outcome {
    let (queue, name) = env.declared("stopped").await?;
    publish_all(&queue, &name, numbered(HELD)).await?;
    let mut holder = env.child("hold", &[("queue", name.as_str())]).await?;
    let mut held = BTreeSet::new();
    while held.len() < HELD {
        let line = holder.line().await?.ok_or("the holder ended")?;
        held.insert(words(&line)?.1.to_owned());
    }
    holder.stop()?;
    let stopped = Instant::now();
    let consumer = queue.subscribe(&stubborn(&env, &name)).await?;
    let mut back = BTreeSet::new();
    while back.len() < HELD {
        let came = consumer.receive(HELD, patience(&env)).await?;
        ensure!(!came.is_empty(), "of what a stopped process holds only {} came back", back.len());
        for delivery in came {
            ensure_eq!(delivery.attempt, 2, "attempt of what a stopped process held");
            ack(&*consumer, &delivery).await?;
            back.insert(delivery.message.id().to_string());
        }
    }
    let due = stopped + brief(&env).max(MISSED_WITHIN);
    env.in_time_by("what a stopped process held", due, Instant::now(), NOTICED_WITHIN)?;
    ensure_eq!(back, held, "what came back");
    holder.go_on()?;
    for _ in 0..HELD {
        let line = holder.line().await?.ok_or("the holder ended before its acks were answered")?;
        ensure!(line.ends_with(" LeaseLost"), "late acks were answered: {line}");
    }
    ensure!(holder.wait().await?.success(), "the holder failed");
    env.drained(&name);
    Ok(())
}

async fn killed_at_any_moment(env: Env) -> Outcome {
    let (queue, name) = env.declared("killed").await?;
    let mut journal = Journal::default();
    let mut rng = env.rng();
    for kill in 0..MOST_KILLS {
        if kill >= KILLS && !journal.acked.is_empty() {
            break;
        }
        let lifetime = LIFETIME * (kill / KILLS + 1);
        let producer = env.child("produce", &[("queue", name.as_str())]).await?;
        let consumer = env.child("consume", &[("queue", name.as_str())]).await?;
        let [short, long] = [0.5 * rng.unit(), rng.unit()].map(|part| lifetime.mul_f64(part));
        let (produced, consumed) = tokio::join!(killed_after(producer, short), killed_after(consumer, long));
        journal.read(&produced?)?;
        journal.read(&consumed?)?;
        journal.round_ends();
    }
    ensure!(!journal.acked.is_empty(), "nothing was acked: nothing was tried");
    let consumer = queue.subscribe(&stubborn(&env, &name)).await?;
    let end = Instant::now() + brief(&env) + patience(&env);
    while !journal.missing().is_empty() {
        for delivery in consumer.receive(10, env.t(1.0)).await? {
            journal.took(&delivery.message.id().to_string(), delivery.attempt)?;
            ack(&*consumer, &delivery).await?;
            journal.ended.insert(delivery.message.id().to_string());
        }
        ensure!(Instant::now() < end, "lost with their processes: {:?}", journal.missing());
    }
    nothing_acked_is_left(&env, &*consumer, &mut journal, &name).await
}

/// What was acked does not come, though there is time for it.
async fn nothing_acked_is_left(
    env: &Env,
    consumer: &dyn Consumer,
    journal: &mut Journal,
    name: &QueueName,
) -> Outcome {
    let end = Instant::now() + brief(env);
    while Instant::now() < end {
        for delivery in consumer.receive(10, env.t(1.0)).await? {
            journal.took(&delivery.message.id().to_string(), delivery.attempt)?;
            ack(consumer, &delivery).await?;
        }
    }
    env.drained(name);
    Ok(())
}

/// All lines of a process that is killed so long after its first one.
async fn killed_after(mut child: Child, after: Duration) -> Result<Vec<String>, Fail> {
    let mut lines = vec![child.line().await?.ok_or("the process ended before its first word")?];
    let end = Instant::now() + after;
    while let Ok(line) = timeout_at(end, child.line()).await {
        lines.push(line?.ok_or_else(|| Fail::new(format!("the process ended by itself after {lines:?}")))?);
    }
    child.kill9().await?;
    while let Some(line) = child.line().await? {
        lines.push(line);
    }
    Ok(lines)
}

/// A line of a process: what, which message, and what more.
fn words(line: &str) -> Result<(&str, &str, &str), Fail> {
    let mut words = line.splitn(3, ' ');
    let mut next = || words.next().unwrap_or_default();
    match (next(), next(), next()) {
        (_, "", _) => Err(Fail::new(format!("not a line of a journal: {line:?}"))),
        words => Ok(words),
    }
}

/// What the processes said together.
#[derive(Default)]
struct Journal {
    published: BTreeSet<String>,
    attempts: BTreeMap<String, u32>,
    /// Those that are at their end, or may be.
    ended: BTreeSet<String>,
    acked: BTreeSet<String>,
    /// The same of rounds that are over.
    long_acked: BTreeSet<String>,
}

impl Journal {
    fn read(&mut self, lines: &[String]) -> Outcome {
        for line in lines.iter().filter(|line| *line != "ready") {
            match words(line)? {
                ("publishing", ..) => {}
                ("published", id, _) => drop(self.published.insert(id.to_owned())),
                ("took", id, attempt) => self.took(id, attempt.parse().map_err(|_| line.clone())?)?,
                ("acking", id, _) => drop(self.ended.insert(id.to_owned())),
                ("acked", id, "Applied") => drop(self.acked.insert(id.to_owned())),
                ("acked", id, "LeaseLost") => drop(self.ended.remove(id)),
                _ => return Err(Fail::new(format!("a process said {line:?}"))),
            }
        }
        Ok(())
    }

    fn round_ends(&mut self) {
        self.long_acked.extend(self.acked.iter().cloned());
    }

    fn took(&mut self, id: &str, attempt: u32) -> Outcome {
        ensure!(!self.long_acked.contains(id), "{id} came again after its ack was answered");
        let before = self.attempts.insert(id.to_owned(), attempt).unwrap_or(0);
        ensure!(attempt > before, "{id} came with attempt {attempt} after {before}");
        Ok(())
    }

    fn missing(&self) -> BTreeSet<&String> {
        self.published.difference(&self.ended).collect()
    }
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-FLT-05",
        "a consumer's process that is stopped loses what it holds, and is told so when it goes on",
        ["S-LSE-1", "S-LSE-2", "S-LSE-3", "S-DEL-1"],
        Both,
        [Shared],
        a_stopped_consumer_loses_what_it_holds
    ),
    case!(
        "C-FLT-06",
        "producers and consumers are killed at any moment: nothing is lost, nothing acked comes again",
        ["S-FLT-2", "S-PUB-1", "S-DEL-1", "S-SET-2", "S-ATT-1"],
        Safety,
        [Shared],
        killed_at_any_moment
    ),
];
