//! MOD: one script of two hundred calls, in which time has no part. The contract leaves nothing open in it, so that all backends answer the
//! same: what stands in `transcript.txt`, which was written down once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Consumer, Delivery, Error, Message, MessageId, Purge, Queue, QueueName, Verdict};

use super::hand::{level, steady};
use crate::verbs::{dead_all, settle_one};
use crate::{Case, Env, Fail, Outcome, Rng, case, ensure, ensure_eq};

const CALLS: usize = 200;
/// The script is the same in each run.
const SEED: u64 = 4;
const EXPECTED: &str = include_str!("transcript.txt");
/// Names a file that the transcript is written to.
const WRITE_TO: &str = "CONFORMANCE_TRANSCRIPT";

async fn two_hundred_calls(env: Env) -> Outcome {
    let (queue, name) = env.declared("script").await?;
    let mut consumers: Vec<Box<dyn Consumer>> = Vec::new();
    for _ in 0..2 {
        let subscription = steady(&env, &name).max_attempts(std::num::NonZeroU32::MAX);
        consumers.push(queue.subscribe(&subscription).await?);
    }
    let mut script = Script {
        queue,
        name,
        consumers,
        rng: Rng::new(SEED),
        names: BTreeMap::new(),
        ready: BTreeMap::new(),
        in_hand: Vec::new(),
        settled: Vec::new(),
    };
    let mut transcript = Vec::new();
    for _ in 0..CALLS {
        transcript.push(script.call().await?);
    }
    if let Some(file) = std::env::var_os(WRITE_TO) {
        std::fs::write(file, transcript.join("\n") + "\n").map_err(|error| error.to_string())?;
    }
    for (nth, (said, expected)) in transcript.iter().zip(EXPECTED.lines()).enumerate() {
        ensure_eq!(said.as_str(), expected, "call {} of the script", nth + 1);
    }
    ensure_eq!(transcript.len(), EXPECTED.lines().count(), "calls");
    Ok(())
}

struct Script {
    queue: Arc<dyn Queue>,
    name: QueueName,
    consumers: Vec<Box<dyn Consumer>>,
    rng: Rng,
    names: BTreeMap<MessageId, String>,
    /// How many are ready of each priority.
    ready: BTreeMap<u8, usize>,
    /// With the consumer that has it.
    in_hand: Vec<(usize, Delivery)>,
    settled: Vec<(usize, Delivery)>,
}

impl Script {
    /// The next call and its answer, in words.
    async fn call(&mut self) -> Result<String, Fail> {
        match self.rng.below(20) {
            0..=5 => self.publish().await,
            6 => self.publish_bad().await,
            7..=11 => self.receive().await,
            12..=14 => self.settle().await,
            15 => self.settle_again().await,
            16 => self.settle_elsewhere().await,
            17 => self.stats().await,
            18 => self.redrive().await,
            _ if self.rng.chance(0.2) => self.purge().await,
            _ => self.dead().await,
        }
    }

    async fn publish(&mut self) -> Result<String, Fail> {
        let mut batch = Vec::new();
        for _ in 0..=self.rng.below(3) {
            let priority = [2, 5, 9][self.rng.below(3) as usize];
            let message = Message::new("").with_priority(level(priority));
            self.names.insert(message.id().clone(), format!("m{}", self.names.len() + 1));
            *self.ready.entry(priority).or_default() += 1;
            batch.push(message);
        }
        let count = batch.len();
        let answers = self.queue.publish(&(&self.name).into(), batch).await?;
        let stored = answers.iter().filter(|answer| matches!(answer, Ok(it) if it.duplicate_of.is_none()));
        Ok(format!("publish {count}: {} stored", stored.count()))
    }

    async fn publish_bad(&mut self) -> Result<String, Fail> {
        let batch = vec![Message::new(""), Message::new("").with_kind("k".repeat(1_000))];
        Ok(match self.queue.publish(&(&self.name).into(), batch).await {
            Err(Error::Invalid { field, index, .. }) => format!("publish a bad one: {field} of {index:?}"),
            Err(error) => format!("publish a bad one: {error}"),
            Ok(_) => "publish a bad one: taken".into(),
        })
    }

    fn named(&self, delivery: &Delivery) -> String {
        let name = self.names.get(delivery.message.id()).map_or("a stranger", String::as_str);
        format!("{name} (attempt {})", delivery.attempt)
    }

    async fn receive(&mut self) -> Result<String, Fail> {
        let (who, most) = (self.rng.below(2) as usize, 1 + self.rng.below(3) as usize);
        let came = self.consumers[who].receive(most, Duration::ZERO).await?;
        let named: Vec<String> = came.iter().map(|it| self.named(it)).collect();
        for delivery in came {
            if let Some(ready) = self.ready.get_mut(&delivery.message.priority().get()) {
                *ready = ready.saturating_sub(1);
            }
            self.in_hand.push((who, delivery));
        }
        Ok(format!("receive {most} at {who}: {}", named.join(", ")))
    }

    /// What comes back may stand anywhere among its equals: only where there are none, all answer the same.
    fn is_alone(&self, priority: u8) -> bool {
        self.ready.get(&priority).is_none_or(|ready| *ready == 0)
    }

    async fn settle(&mut self) -> Result<String, Fail> {
        if self.in_hand.is_empty() {
            return self.receive().await;
        }
        let place = self.rng.below(self.in_hand.len() as u64) as usize;
        let (who, delivery) = self.in_hand.remove(place);
        let priority = delivery.message.priority().get();
        let again = self.is_alone(priority);
        let (word, verdict) = match self.rng.below(6) {
            0 if again => ("retry", Verdict::retry(Duration::ZERO, "again")),
            1 if again => ("release", Verdict::Release { after: Duration::ZERO }),
            2 | 3 => ("reject", Verdict::reject("not for me")),
            _ => ("ack", Verdict::Ack),
        };
        if matches!(word, "retry" | "release") {
            *self.ready.entry(priority).or_default() += 1;
        }
        let answer = settle_one(&*self.consumers[who], &delivery.receipt, verdict).await?;
        let said = format!("{word} {}: {answer:?}", self.named(&delivery));
        if matches!(word, "ack" | "reject") {
            self.settled.push((who, delivery));
        }
        Ok(said)
    }

    async fn settle_again(&mut self) -> Result<String, Fail> {
        let Some((who, delivery)) = self.settled.last() else { return self.receive().await };
        let answer = settle_one(&*self.consumers[*who], &delivery.receipt, Verdict::Ack).await?;
        Ok(format!("ack {} again: {answer:?}", self.named(delivery)))
    }

    async fn settle_elsewhere(&mut self) -> Result<String, Fail> {
        let Some((who, delivery)) = self.in_hand.last() else { return self.receive().await };
        let answer = settle_one(&*self.consumers[1 - who], &delivery.receipt, Verdict::Ack).await?;
        Ok(format!("ack {} at the other consumer: {answer:?}", self.named(delivery)))
    }

    async fn stats(&mut self) -> Result<String, Fail> {
        let stats = self.queue.stats(&self.name).await?;
        Ok(format!("stats: {} ready, {} dead", stats.ready, stats.dead))
    }

    async fn dead(&mut self) -> Result<String, Fail> {
        let dead = dead_all(&self.queue, &self.name).await?;
        let named = |id: &MessageId| self.names.get(id).cloned().unwrap_or_else(|| "a stranger".into());
        let shown = dead.iter().map(|it| {
            let name = it.message().map_or_else(|| "unreadable".into(), |message| named(message.id()));
            format!("{name} {:?} {} {:?}", it.reason, it.attempts, it.error)
        });
        Ok(format!("dead: {}", shown.collect::<Vec<_>>().join(", ")))
    }

    async fn redrive(&mut self) -> Result<String, Fail> {
        let dead = dead_all(&self.queue, &self.name).await?;
        let alone = |priority| self.is_alone(priority);
        let first = dead.iter().find_map(|it| {
            let priority = it.message()?.priority().get();
            alone(priority).then(|| (it.id.clone(), priority))
        });
        let Some((id, priority)) = first else { return self.stats().await };
        *self.ready.entry(priority).or_default() += 1;
        let moved = self.queue.redrive(&self.name, &[id.clone(), id]).await?;
        Ok(format!("redrive one twice: {moved:?}"))
    }

    async fn purge(&mut self) -> Result<String, Fail> {
        self.ready.clear();
        let purged = self.queue.purge(&self.name, Purge::Waiting).await?;
        ensure!(purged < 1_000, "{purged} were purged");
        Ok(format!("purge: {purged}"))
    }
}

pub(crate) const CASES: &[Case] = &[case!(
    "C-MOD-04",
    "a script of two hundred calls is answered as it is by every other backend",
    [
        "S-PUB-1", "S-BAT-1", "S-DEL-3", "S-PRI-1", "S-ORD-1", "S-LSE-3", "S-SET-1", "S-ADM-1", "S-ADM-2",
        "S-ATT-1", "S-DLQ-1", "S-RDR-1"
    ],
    Safety,
    [],
    two_hundred_calls
)];
