//! The worker beside the contract that it stands on: what costs a handler more than a verdict of one's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use polyqueue::{
    Bytes, Consumer, HandlerOptions, Job, Queue, QueueName, Subscription, Verdict, Worker, connect_from_env,
    with,
};
use tokio::sync::Notify;

use crate::measure::{Duel, rate};
use crate::{BATCH, Outcome, PUBLISHERS, ROUNDS, ours};

const PREFETCH: usize = 256;
/// Of the contract, each 100 at a time.
const CONSUMERS: usize = 2;

pub(crate) async fn run() -> Outcome {
    let providers = [polyqueue_memory::PROVIDER, polyqueue_redis::PROVIDER, polyqueue_rabbitmq::PROVIDER];
    let queue = connect_from_env(&providers).await?;
    let provider = queue.info().provider;
    let messages = if provider == "memory" { 320_000 } else { 40_000 } / PUBLISHERS * PUBLISHERS;
    for (load, is_backlog) in [("drain", true), ("both", false)] {
        for prefetch in [0, PREFETCH] {
            let mut duel = Duel::default();
            for _ in 0..ROUNDS {
                let run = Run { queue: &queue, messages, prefetch, is_backlog };
                duel.raw.push(run.rate(|given, done| contract(given, done)).await?);
                duel.ours.push(run.rate(|given, done| work(given, done)).await?);
            }
            let wanted = if provider == "memory" && !is_backlog && prefetch == 0 { 0.6 } else { 0.9 };
            duel.print_as(&format!("{provider} {load}, prefetch {prefetch}"), ["worker", "contract"], wanted);
        }
    }
    Ok(())
}

/// What is measured, once.
struct Run<'a> {
    queue: &'a Arc<dyn Queue>,
    messages: usize,
    prefetch: usize,
    /// All messages are there before it begins.
    is_backlog: bool,
}

/// What a contender gets.
struct Given {
    queue: Arc<dyn Queue>,
    name: QueueName,
    prefetch: usize,
}

/// Counts what was handled.
struct Done {
    left: AtomicUsize,
    all: Arc<Notify>,
}

impl Done {
    fn some(&self, messages: usize) {
        if self.left.fetch_sub(messages, Relaxed) == messages {
            self.all.notify_one();
        }
    }
}

impl Run<'_> {
    async fn rate<F: Future<Output = Outcome> + Send + 'static>(
        &self,
        contender: impl FnOnce(Given, Arc<Done>) -> F,
    ) -> Outcome<f64> {
        let name = ours::declared(self.queue).await?;
        let given = Given { queue: self.queue.clone(), name: name.clone(), prefetch: self.prefetch };
        let done = Arc::new(Done { left: AtomicUsize::new(self.messages), all: Arc::default() });
        let publish = ours::publish(self.queue.clone(), name.clone(), self.messages);
        let rate = if self.is_backlog {
            publish.await?;
            rate(self.messages, contender(given, done)).await?
        } else {
            let both = async {
                let contender = tokio::spawn(contender(given, done));
                publish.await?;
                contender.await?
            };
            rate(self.messages, both).await?
        };
        let stats = self.queue.stats(&name).await?;
        if stats.ready + stats.dead + stats.in_flight.unwrap_or_default() > 0 {
            return Err(format!("messages are left: {stats:?}").into());
        }
        self.queue.delete(&name).await?;
        Ok(rate)
    }
}

/// Consumers that receive and ack, until all were acked.
async fn contract(given: Given, done: Arc<Done>) -> Outcome {
    let all = done.all.clone();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CONSUMERS {
        let subscription = Subscription::new(given.name.clone()).prefetch(given.prefetch);
        let (consumer, done) = (given.queue.subscribe(&subscription).await?, done.clone());
        tasks.spawn(async move { consume(&*consumer, &done).await });
    }
    tokio::select! {
        () = all.notified() => Ok(()),
        Some(failed) = tasks.join_next() => failed?,
    }
}

async fn consume(consumer: &dyn Consumer, done: &Done) -> Outcome {
    loop {
        let deliveries = consumer.receive(BATCH, Duration::from_secs(60)).await?;
        let verdicts: Vec<_> = deliveries.into_iter().map(|d| (d.receipt, Verdict::Ack)).collect();
        for answer in consumer.settle(&verdicts).await? {
            answer?;
        }
        done.some(verdicts.len());
    }
}

/// A worker with a handler that does nothing, 16 at a time.
async fn work(given: Given, done: Arc<Done>) -> Outcome {
    let (messages, all) = (done.left.load(Relaxed), done.all.clone());
    let count = with(done, async |done, _: Job<Bytes>| {
        done.some(1);
        Ok(())
    });
    let mut worker = Worker::new(given.queue).concurrency(16);
    if given.prefetch > 0 {
        worker = worker.prefetch(given.prefetch);
    }
    let worker = worker.on_others_with(count, HandlerOptions::new());
    let report = worker.run([given.name], all.notified_owned()).await?;
    if report.acked == messages as u64 {
        Ok(())
    } else {
        Err(format!("not all were acked: {report:?}").into())
    }
}
