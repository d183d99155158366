//! A group that sleeps: what 200,000 messages that wait for it cost the group that is awake, and this process.

use std::sync::Arc;

use polyqueue::{
    Bytes, ConnectOptions, Destination, Message, MessageId, Pattern, Provider, Queue, QueueName, QueueSpec,
    RoutingKey,
};

use crate::measure::{Duel, rate};
use crate::{BATCH, Outcome, PAYLOAD, ROUNDS, ours};

const WAITING: usize = 200_000;
const MESSAGES: usize = 20_000;
const WANTED: f64 = 0.9;
/// What this process may grow by while the messages pile up elsewhere.
const GROWTH_MIB: f64 = 64.0;

pub(crate) async fn run() -> Outcome {
    for (provider, prefetch) in [(polyqueue_redis::PROVIDER, 0), (polyqueue_rabbitmq::PROVIDER, BATCH)] {
        if let Ok(url) = std::env::var(provider.url_var()) {
            duel(provider, &url, prefetch).await?;
        }
    }
    Ok(())
}

async fn duel(provider: Provider, url: &str, prefetch: usize) -> Outcome {
    let queue = provider.connect(ConnectOptions::new(url).namespace("bench-groups")).await?;
    let (alone, crowded) = (Topic::new("alone")?, Topic::new("crowded")?);
    let awake = [alone.join(&queue, "awake").await?, crowded.join(&queue, "awake").await?];
    let asleep = crowded.join(&queue, "asleep").await?;
    let before = resident_mib()?;
    for _ in 0..WAITING / MESSAGES {
        crowded.publish(&queue, MESSAGES).await?;
        ours::consume(queue.clone(), awake[1].clone(), MESSAGES, prefetch).await?;
    }
    let growth = resident_mib()? - before;
    let mut consuming = Duel::default();
    for _ in 0..ROUNDS {
        alone.publish(&queue, MESSAGES).await?;
        consuming
            .raw
            .push(rate(MESSAGES, ours::consume(queue.clone(), awake[0].clone(), MESSAGES, prefetch)).await?);
        crowded.publish(&queue, MESSAGES).await?;
        consuming
            .ours
            .push(rate(MESSAGES, ours::consume(queue.clone(), awake[1].clone(), MESSAGES, prefetch)).await?);
    }
    let waiting = queue.stats(&asleep).await?.ready;
    println!("{}: {waiting} wait for a group that sleeps; `raw` is the same group alone", provider.name());
    consuming.print(&format!("{} group beside a sleeper", provider.name()), WANTED);
    let verdict = if growth <= GROWTH_MIB { "reached" } else { "MISSED" };
    println!("{:<32} this process grew by {growth:.0} MiB (wanted at most {GROWTH_MIB:.0}: {verdict})", "");
    for name in awake.iter().chain([&asleep]) {
        queue.delete(name).await?;
    }
    queue.close().await?;
    Ok(())
}

/// A topic of its own.
struct Topic {
    key: RoutingKey,
}

impl Topic {
    fn new(name: &str) -> Outcome<Self> {
        Ok(Self { key: RoutingKey::new(format!("{name}.{}", MessageId::random()))? })
    }

    async fn join(&self, queue: &Arc<dyn Queue>, group: &str) -> Outcome<QueueName> {
        let name = QueueName::new(format!("{}.{group}", self.key))?;
        queue.declare(&QueueSpec::new(name.clone()).bind(Pattern::new(self.key.as_str())?)).await?;
        Ok(name)
    }

    async fn publish(&self, queue: &Arc<dyn Queue>, messages: usize) -> Outcome {
        let (to, payload) = (Destination::from(&self.key), Bytes::from(vec![b'x'; PAYLOAD]));
        for _ in 0..messages / BATCH {
            let batch = (0..BATCH).map(|_| Message::new(payload.clone())).collect();
            for answer in queue.publish(&to, batch).await? {
                answer?;
            }
        }
        Ok(())
    }
}

fn resident_mib() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib / 1024.0)
}
