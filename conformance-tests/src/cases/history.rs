//! Crowds: many producers and consumers at once, whose history is judged by every rule.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use polyqueue::{Consumer, Delivery, Message, Priority, Queue, QueueName, Settled, Verdict};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::verbs::{dead_all, publish_all, settle_one};
use crate::{Case, Env, Fail, Outcome, Rng, case, ensure, ensure_eq};

/// Nothing moves for so long: the queue is stuck.
const STUCK: Duration = Duration::from_secs(60);
const PRODUCERS: usize = 4;
const CONSUMERS: usize = 4;

async fn calm(env: Env) -> Outcome {
    let crowd = Crowd::gather(&env, if env.virtual_time() { 10_000 } else { 3_000 }).await?;
    crowd.run(|_, _| Verdict::Ack).await?;
    let stats = crowd.handles[0].stats(&crowd.queue).await?;
    ensure_eq!((stats.ready, stats.dead), (0, 0), "ready and dead at the end");
    ensure!(stats.delayed.unwrap_or(0) == 0 && stats.in_flight.unwrap_or(0) == 0, "left: {stats:?}");
    env.drained(&crowd.queue);
    Ok(())
}

async fn rough(env: Env) -> Outcome {
    let crowd = Crowd::gather(&env, if env.virtual_time() { 3_000 } else { 400 }).await?;
    let t = env.tick();
    crowd.run(move |rng, delivery| fate(rng, t, delivery)).await?;
    let dead = dead_all(&crowd.handles[0], &crowd.queue).await?;
    ensure!(!dead.is_empty(), "no message died: nothing was tried");
    for dead_letters in dead.chunks(100) {
        let ids: Vec<_> = dead_letters.iter().map(|dead_letter| dead_letter.id.clone()).collect();
        let moved = crowd.handles[1].redrive(&crowd.queue, &ids).await?;
        ensure!(moved.iter().all(|moved| *moved), "whether each that was just listed was there: {moved:?}");
    }
    crowd.finish(|_, _| Verdict::Ack).await?;
    env.drained(&crowd.queue);
    Ok(())
}

/// What a careless handler does: most of the time its work. `HOLD` is no verdict: it lets the lease end.
fn fate(rng: &mut Rng, t: Duration, delivery: &Delivery) -> Verdict {
    match rng.below(20) {
        0..=2 => Verdict::retry(t.mul_f64(rng.unit() * 2.0), format!("attempt {} failed", delivery.attempt)),
        3 => Verdict::retry(Duration::ZERO, "at once"),
        4 => Verdict::Release { after: t.mul_f64(rng.unit()) },
        5 => Verdict::reject("not for me"),
        6 => Verdict::Release { after: HOLD },
        _ => Verdict::Ack,
    }
}

/// Stands for no verdict at all.
const HOLD: Duration = Duration::MAX;

/// Producers and consumers of one queue, on several handles.
struct Crowd {
    env: Env,
    queue: QueueName,
    handles: Vec<Arc<dyn Queue>>,
    messages: u64,
    acked: Arc<AtomicU64>,
}

impl Crowd {
    async fn gather(env: &Env, messages: u64) -> Result<Self, Fail> {
        let (first, queue) = env.declared("crowd").await?;
        let handles = vec![first, env.open().await?, env.open().await?];
        Ok(Self { env: env.clone(), queue, handles, messages, acked: Arc::default() })
    }

    fn handle(&self, nth: usize) -> Arc<dyn Queue> {
        self.handles[nth % self.handles.len()].clone()
    }

    /// Publishes everything while consuming it, to the last message.
    async fn run(&self, fate: impl Fn(&mut Rng, &Delivery) -> Verdict + Clone + Send + 'static) -> Outcome {
        let mut producers = JoinSet::new();
        for nth in 0..PRODUCERS {
            let (queue, name, rng) = (self.handle(nth), self.queue.clone(), self.env.rng());
            let share = self.messages / PRODUCERS as u64;
            producers.spawn(produce(queue, name, share, rng, self.env.tick()));
        }
        self.finish(fate).await?;
        joined(producers).await
    }

    /// Consumes until every message has come to its end.
    async fn finish(
        &self,
        fate: impl Fn(&mut Rng, &Delivery) -> Verdict + Clone + Send + 'static,
    ) -> Outcome {
        let done = CancellationToken::new();
        let mut consumers = JoinSet::new();
        for nth in 0..CONSUMERS {
            let hand = Hand {
                consumer: self.handle(nth).subscribe(&self.env.subscription(&self.queue)).await?,
                rng: self.env.rng(),
                wait: self.env.t(2.0),
                acked: self.acked.clone(),
                done: done.clone(),
            };
            consumers.spawn(hand.work(fate.clone()));
        }
        let watched = self.watch().await;
        done.cancel();
        watched?;
        joined(consumers).await
    }

    /// Waits until every message is acked or dead: to the high-water mark, not for silence.
    async fn watch(&self) -> Outcome {
        let (mut seen, mut since) = ((0, 0), Instant::now());
        loop {
            tokio::time::sleep(self.env.tick()).await;
            let (acked, dead) = (self.acked.load(Relaxed), self.handles[0].stats(&self.queue).await?.dead);
            if acked + dead == self.messages {
                return Ok(());
            }
            if seen != (acked, dead) {
                (seen, since) = ((acked, dead), Instant::now());
            }
            let messages = self.messages;
            ensure!(
                since.elapsed() < STUCK,
                "stuck: of {messages} messages {acked} are acked and {dead} dead"
            );
        }
    }
}

async fn joined(mut tasks: JoinSet<Outcome>) -> Outcome {
    while let Some(task) = tasks.join_next().await {
        task.map_err(|error| Fail::new(error.to_string()))??;
    }
    Ok(())
}

/// Publishes in batches of one to five, now and then with a delay, at all priorities.
async fn produce(queue: Arc<dyn Queue>, to: QueueName, messages: u64, mut rng: Rng, t: Duration) -> Outcome {
    let mut left = messages;
    while left > 0 {
        let batch = (1 + rng.below(5)).min(left);
        left -= batch;
        let batch = (0..batch).map(|_| message(&mut rng, t)).collect();
        publish_all(&queue, &to, batch).await?;
        if rng.chance(0.05) {
            tokio::time::sleep(t.mul_f64(rng.unit() * 0.2)).await;
        }
    }
    Ok(())
}

fn message(rng: &mut Rng, t: Duration) -> Message {
    let bytes = rng.below(200) as usize;
    let priority = Priority::new(1 + rng.below(10) as i64).unwrap_or_default();
    let message = Message::new(rng.bytes(bytes)).with_priority(priority);
    if rng.chance(0.1) { message.with_delay(t.mul_f64(rng.unit() * 3.0)) } else { message }
}

/// One consumer's task.
struct Hand {
    consumer: Box<dyn Consumer>,
    rng: Rng,
    wait: Duration,
    acked: Arc<AtomicU64>,
    done: CancellationToken,
}

impl Hand {
    async fn work(mut self, fate: impl Fn(&mut Rng, &Delivery) -> Verdict) -> Outcome {
        while !self.done.is_cancelled() {
            let most = 1 + self.rng.below(3) as usize;
            for delivery in self.consumer.receive(most, self.wait).await? {
                let verdict = fate(&mut self.rng, &delivery);
                if verdict == (Verdict::Release { after: HOLD }) {
                    continue;
                }
                let is_ack = verdict == Verdict::Ack;
                match settle_one(self.consumer.as_ref(), &delivery.receipt, verdict).await? {
                    Settled::Applied if is_ack => drop(self.acked.fetch_add(1, Relaxed)),
                    Settled::Applied | Settled::Died | Settled::LeaseLost => {}
                    Settled::AlreadySettled => {
                        return Err("a first verdict was answered AlreadySettled".into());
                    }
                }
            }
        }
        Ok(())
    }
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-HIS-01",
        "a crowd without faults: nothing lost, twice, early, late or out of order",
        [
            "S-DEL-1", "S-DEL-2", "S-DEL-3", "S-DEL-4", "S-DEL-5", "S-ORD-1", "S-PRI-1", "S-PRI-2",
            "S-DLY-1", "S-DLY-2"
        ],
        Both,
        [Minutes],
        calm
    ),
    case!(
        "C-HIS-02",
        "a crowd that fails, releases, rejects and forgets: every message comes to its end",
        [
            "S-DEL-1", "S-DEL-2", "S-ATT-1", "S-ATT-2", "S-ATT-3", "S-RET-1", "S-LSE-1", "S-LSE-2",
            "S-DLQ-1", "S-DLQ-2", "S-RDR-1"
        ],
        Both,
        [Minutes],
        rough
    ),
];
