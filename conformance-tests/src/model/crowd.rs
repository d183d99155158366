//! A careless crowd: many producers and consumers at once on one queue, who forget messages, answer twice, answer too late and
//! walk away, each call recorded, for the judges of histories.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{
    Consumer, DeadFilter, Delivery, Message, MessageId, Page, Priority, Queue, QueueName, Settled, Verdict,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::verbs::poll_then_drop;
use crate::{Env, Fail, Outcome, Rng};

/// How many take part, and how much each producer publishes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) producers: usize,
    pub(super) consumers: usize,
    pub(super) batches: usize,
    /// Whether consumers drop receives now and then, after which nobody can tell from outside what is ready.
    pub(super) drops: bool,
}

/// Everything that was published must come to its end; whatever does not, the history shows.
pub(super) async fn crowd(env: &Env, size: Size) -> Outcome {
    let (queue, name) = env.declared("crowd").await?;
    let scene = Arc::new(Scene {
        env: env.clone(),
        name: name.clone(),
        unfinished: Mutex::default(),
        closing: AtomicBool::new(false),
    });
    let mut producers = JoinSet::new();
    for _ in 0..size.producers {
        producers.spawn(scene.clone().produce(env.open().await?, env.rng(), size.batches));
    }
    let mut others = JoinSet::new();
    others.spawn(scene.clone().operate(queue.clone(), env.rng()));
    for _ in 0..size.consumers {
        let queue = env.open().await?;
        let consumer = queue.subscribe(&env.subscription(&name)).await?;
        others.spawn(scene.clone().consume(consumer, env.rng(), size.drops));
    }
    while let Some(producer) = producers.join_next().await {
        producer.map_err(|error| Fail::new(error.to_string()))??;
    }
    scene.finish(env.t(40.0)).await;
    while let Some(other) = others.join_next().await {
        other.map_err(|error| Fail::new(error.to_string()))??;
    }
    scene.drain(&queue).await
}

struct Scene {
    env: Env,
    name: QueueName,
    unfinished: Mutex<BTreeSet<MessageId>>,
    closing: AtomicBool,
}

impl Scene {
    async fn produce(self: Arc<Self>, queue: Arc<dyn Queue>, mut rng: Rng, batches: usize) -> Outcome {
        for _ in 0..batches {
            let batch: Vec<Message> = (0..1 + rng.below(3)).map(|_| self.message(&mut rng)).collect();
            self.unfinished.lock().extend(batch.iter().map(|message| message.id().clone()));
            for answer in queue.publish(&self.name.clone().into(), batch).await? {
                answer?;
            }
            // Mostly at once, now and then after a silence, in which the consumers run dry.
            let most = if rng.chance(0.2) { 6_000 } else { 400 };
            sleep(self.some(&mut rng, most)).await;
        }
        Ok(())
    }

    fn message(&self, rng: &mut Rng) -> Message {
        let priority = Priority::new(1 + rng.below(10) as i64).unwrap_or_default();
        let delay = if rng.chance(0.25) { self.some(rng, 3_000) } else { Duration::ZERO };
        Message::new(rng.bytes(16)).with_priority(priority).with_delay(delay).with_header("h", "v")
    }

    /// Up to so many thousandths of T, in whole milliseconds.
    fn some(&self, rng: &mut Rng, most: u64) -> Duration {
        Duration::from_millis(self.env.tick().as_millis() as u64 * rng.below(most) / 1_000)
    }

    async fn consume(self: Arc<Self>, consumer: Box<dyn Consumer>, mut rng: Rng, drops: bool) -> Outcome {
        while !self.closing.load(SeqCst) {
            let (max, wait) = (1 + rng.below(2) as usize, self.some(&mut rng, 3_000));
            let mut receive = consumer.receive(max, wait);
            // Somebody gives up, and does not look whether there is an answer.
            if drops && rng.chance(0.25) {
                let _ = poll_then_drop(&mut receive, 1).await;
                sleep(self.some(&mut rng, 500)).await;
                continue;
            }
            let came = receive.await?;
            for delivery in &came {
                self.handle(consumer.as_ref(), delivery, &mut rng).await?;
            }
        }
        Ok(())
    }

    async fn handle(&self, consumer: &dyn Consumer, delivery: &Delivery, rng: &mut Rng) -> Outcome {
        sleep(self.some(rng, 300)).await;
        let after = if rng.chance(0.5) { Duration::ZERO } else { self.some(rng, 2_000) };
        match rng.below(100) {
            0..=58 => self.settle(consumer, delivery, Verdict::Ack).await,
            59..=73 => self.settle(consumer, delivery, Verdict::retry(after, "again")).await,
            74..=81 => self.settle(consumer, delivery, Verdict::Release { after }).await,
            82..=85 => self.settle(consumer, delivery, Verdict::reject("never")).await,
            // It keeps the message and does nothing.
            86..=90 => Ok(()),
            91..=94 => {
                self.settle(consumer, delivery, Verdict::Ack).await?;
                self.settle(consumer, delivery, Verdict::retry(after, "twice")).await
            }
            95..=97 => {
                consumer.extend(std::slice::from_ref(&delivery.receipt)).await?;
                sleep_until(delivery.lease_until + self.some(rng, 1_000)).await;
                self.settle(consumer, delivery, Verdict::Ack).await
            }
            // It is too late, when it remembers.
            _ => {
                sleep_until(delivery.lease_until + self.some(rng, 1_000)).await;
                consumer.extend(std::slice::from_ref(&delivery.receipt)).await?;
                self.settle(consumer, delivery, Verdict::Ack).await
            }
        }
    }

    async fn settle(&self, consumer: &dyn Consumer, delivery: &Delivery, verdict: Verdict) -> Outcome {
        let last = matches!(verdict, Verdict::Ack | Verdict::DeadLetter { .. });
        for answer in consumer.settle(&[(delivery.receipt.clone(), verdict)]).await? {
            let answer = answer?;
            if answer == Settled::Died || (answer == Settled::Applied && last) {
                self.unfinished.lock().remove(delivery.message.id());
            }
        }
        Ok(())
    }

    /// Looks at everything, and redrives a dead letter when there are some.
    async fn operate(self: Arc<Self>, queue: Arc<dyn Queue>, mut rng: Rng) -> Outcome {
        while !self.closing.load(SeqCst) {
            queue.stats(&self.name).await?;
            let page = queue.dead_letters(&self.name, &DeadFilter::all(), Page::first(500)).await?;
            if let Some(dead_letter) = rng.pick(&page.dead_letters).filter(|_| page.dead_letters.len() > 4) {
                if let Some(message) = dead_letter.message() {
                    self.unfinished.lock().insert(message.id().clone());
                }
                queue.redrive(&self.name, std::slice::from_ref(&dead_letter.id)).await?;
            }
            sleep(self.env.tick() + self.some(&mut rng, 1_000)).await;
        }
        Ok(())
    }

    /// Lets the consumers work until everything has come to its end, or for as long as that may take.
    async fn finish(&self, patience: Duration) {
        let start = Instant::now();
        while !self.unfinished.lock().is_empty() && start.elapsed() < patience {
            sleep(self.env.tick() / 4).await;
        }
        self.closing.store(true, SeqCst);
    }

    /// Brings the rest to its end. What is in nobody's hands by now comes back within a lease.
    async fn drain(&self, queue: &Arc<dyn Queue>) -> Outcome {
        let consumer = queue.subscribe(&self.env.subscription(&self.name)).await?;
        loop {
            let came = consumer.receive(1, self.env.t(8.0)).await?;
            let Some(delivery) = came.first() else { break };
            self.settle(consumer.as_ref(), delivery, Verdict::Ack).await?;
        }
        let mut page = Page::first(500);
        while let Some(cursor) = queue.dead_letters(&self.name, &DeadFilter::all(), page).await?.next {
            page = Page::after(cursor, 500);
        }
        self.env.drained(&self.name);
        Ok(())
    }
}
