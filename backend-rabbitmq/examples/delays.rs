//! Delays on a private RabbitMQ, in numbers and faults for which the tests have no time: `scripts/drill delays PART`.
#![allow(clippy::unwrap_used, reason = "in a drill a panic is the report")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use polyqueue::{ConnectOptions, Consumer, Message, Queue, QueueExt, QueueName, Subscription, Verdict};
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_rabbitmq::PROVIDER;
use tokio::time::{sleep, timeout};

const Q: QueueName = QueueName::from_static("q");
const SECOND: Duration = Duration::from_secs(1);

async fn open(broker: &RabbitBroker) -> Arc<dyn Queue> {
    let options = ConnectOptions::new(broker.url()).deadline(60 * SECOND);
    PROVIDER.connect(options).await.unwrap()
}

async fn consumer(queue: &Arc<dyn Queue>) -> Box<dyn Consumer> {
    queue.subscribe(&Subscription::new(Q).prefetch(500)).await.unwrap()
}

/// What was published, and when each is due and came.
#[derive(Default)]
struct Ledger {
    due: Vec<Instant>,
    came: HashMap<usize, Instant>,
    copies: usize,
}

impl Ledger {
    /// Publishes a batch, and notes when each is due at the earliest.
    async fn publish(&mut self, queue: &Arc<dyn Queue>, waits: impl Iterator<Item = Duration>) {
        let (mut batch, mut due) = (Vec::new(), Vec::new());
        let first = self.due.len();
        for (nth, wait) in waits.enumerate() {
            batch.push(Message::new((first + nth).to_string()).with_delay(wait));
            due.push(wait);
        }
        let began = Instant::now();
        for published in queue.publish(&Q.into(), batch).await.unwrap() {
            published.unwrap();
        }
        self.due.extend(due.into_iter().map(|wait| began + wait));
    }

    /// Takes what comes until all have come, or nothing comes for so long.
    async fn take_all(&mut self, consumer: &dyn Consumer, patience: Duration) {
        let mut last = Instant::now();
        while self.came.len() < self.due.len() && last.elapsed() < patience {
            let Ok(deliveries) = consumer.receive(500, SECOND).await else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            let mut verdicts = Vec::new();
            for delivery in deliveries {
                last = Instant::now();
                let nth = std::str::from_utf8(delivery.message.payload()).unwrap().parse().unwrap();
                self.copies += usize::from(self.came.insert(nth, last).is_some());
                verdicts.push((delivery.receipt, Verdict::Ack));
            }
            let _ = consumer.settle(&verdicts).await;
        }
    }

    /// Says what became of them: how late they were, by when each was due and not before `since`.
    fn judge(&self, what: &str, since: Option<Instant>) -> bool {
        let mut late = Vec::new();
        let mut early = 0;
        for (nth, came) in &self.came {
            let due = self.due[*nth];
            early += usize::from(*came < due);
            late.push(came.saturating_duration_since(since.map_or(due, |since| since.max(due))));
        }
        late.sort_unstable();
        let at = |part: usize| late.get((late.len() * part / 100).min(late.len().saturating_sub(1)));
        let (lost, copies) = (self.due.len() - self.came.len(), self.copies);
        println!(
            "{what}: {} published, {lost} lost, {early} early, {copies} copies; late p50 {:?}, p99 {:?}, most {:?}",
            self.due.len(),
            at(50).unwrap_or(&Duration::ZERO),
            at(99).unwrap_or(&Duration::ZERO),
            late.last().unwrap_or(&Duration::ZERO)
        );
        lost == 0 && early == 0
    }
}

/// 500 a second for 20 s, and somebody who waits.
async fn lateness(broker: &RabbitBroker) -> bool {
    let queue = open(broker).await;
    queue.declare(&Q.into()).await.unwrap();
    queue.publish_one(Q, Message::new("0").with_delay(SECOND)).await.unwrap();
    sleep(3 * SECOND).await;
    let reader = consumer(&queue).await;
    let (due, published) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let publish = async {
        let began = Instant::now();
        for nth in 0..400_u32 {
            let wait = |n: u32| Duration::from_millis(u64::from(1_000 + (nth * 25 + n) * 37 % 2_000));
            let first = due.lock().unwrap().len();
            let waits: Vec<Duration> = (0..25).map(wait).collect();
            let batch = waits.iter().enumerate();
            let batch =
                batch.map(|(n, wait)| Message::new((first + n).to_string()).with_delay(*wait)).collect();
            let now = Instant::now();
            due.lock().unwrap().extend(waits.iter().map(|wait| now + *wait));
            queue.publish(&Q.into(), batch).await.unwrap();
            sleep((Duration::from_millis(50) * (nth + 1)).saturating_sub(began.elapsed())).await;
        }
        published.store(true, SeqCst);
    };
    let take = async {
        let mut came = HashMap::new();
        drop(reader.receive(1, SECOND).await);
        while !published.load(SeqCst) || came.len() < due.lock().unwrap().len() {
            let mut verdicts = Vec::new();
            for delivery in reader.receive(500, SECOND).await.unwrap() {
                let nth: usize = std::str::from_utf8(delivery.message.payload()).unwrap().parse().unwrap();
                came.insert(nth, Instant::now());
                verdicts.push((delivery.receipt, Verdict::Ack));
            }
            let _ = reader.settle(&verdicts).await;
        }
        came
    };
    let (_, came) = tokio::join!(publish, take);
    let due = due.into_inner().unwrap();
    Ledger { due, came, copies: 0 }.judge("500 a second", None)
}

/// 100,000 are due in one second.
async fn burst(broker: &RabbitBroker) -> bool {
    let queue = open(broker).await;
    queue.declare(&Q.into()).await.unwrap();
    let mut ledger = Ledger::default();
    let due = Instant::now() + 60 * SECOND;
    for _ in 0..100 {
        let wait = due.saturating_duration_since(Instant::now());
        ledger.publish(&queue, (0..1_000).map(|_| wait)).await;
    }
    println!(
        "published by {:?} before they are due; {} KiB of memory",
        due.saturating_duration_since(Instant::now()),
        memory()
    );
    let reader = consumer(&queue).await;
    sleep(due.saturating_duration_since(Instant::now())).await;
    let most = async {
        let mut most = 0;
        loop {
            most = most.max(memory());
            println!("{} KiB of memory", most);
            sleep(5 * SECOND).await;
        }
    };
    tokio::select! {
        () = ledger.take_all(&*reader, 20 * SECOND) => {}
        () = most => {}
    }
    ledger.judge("100,000 in one second", None)
}

/// What this process has in memory, in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The broker is killed while messages wait, beside 200 quorum queues.
async fn restarts(broker: &RabbitBroker) -> bool {
    let queue = open(broker).await;
    queue.declare(&Q.into()).await.unwrap();
    let quorum = "[rabbit_amqqueue:declare(rabbit_misc:r(<<\"/\">>, queue, list_to_binary(\"quorum\" ++ integer_to_list(N))), \
         true, false, [{<<\"x-queue-type\">>, longstr, <<\"quorum\">>}], none, <<\"test\">>) || N <- lists:seq(1, 200)], ok";
    timeout(120 * SECOND, broker.eval(quorum)).await.unwrap().unwrap();
    let mut good = true;
    for round in 0..4 {
        let mut ledger = Ledger::default();
        ledger.publish(&queue, (0..3_000).map(|n| Duration::from_millis(1_000 + 2 * n))).await;
        sleep(2 * SECOND).await;
        if round % 2 == 0 {
            broker.kill9().await.unwrap()
        } else {
            broker.stop_gracefully().await.unwrap()
        }
        broker.start_again().await.unwrap();
        let started = Instant::now();
        ledger.take_all(&*consumer(&queue).await, 30 * SECOND).await;
        good &= ledger.judge("after a restart, from its end on", Some(started));
    }
    good
}

/// Nobody lives for a minute in which all of it is due.
async fn alone(broker: &RabbitBroker) -> bool {
    let queue = open(broker).await;
    queue.declare(&Q.into()).await.unwrap();
    let mut ledger = Ledger::default();
    ledger.publish(&queue, (0..3_000).map(|n| Duration::from_millis(2_000 + 30 * n))).await;
    queue.close().await.unwrap();
    sleep(60 * SECOND).await;
    let (began, queue) = (Instant::now(), open(broker).await);
    ledger.take_all(&*consumer(&queue).await, 40 * SECOND).await;
    ledger.judge("nobody for a minute, from the first client on", Some(began))
}

/// 100 namespaces in one virtual host.
async fn namespaces(broker: &RabbitBroker) -> bool {
    let root = open(broker).await;
    let one = async |nth: u32| {
        let queue = root.namespace(&format!("tenant{nth}")).unwrap();
        queue.declare(&Q.into()).await.unwrap();
        let mut ledger = Ledger::default();
        ledger.publish(&queue, (0..20).map(|n| Duration::from_millis(500 + 100 * n))).await;
        ledger.take_all(&*consumer(&queue).await, 30 * SECOND).await;
        ledger.came.len() == 20 && ledger.copies == 0
    };
    let good = join_all((0..100).map(one)).await.into_iter().filter(|good| *good).count();
    println!("100 namespaces: {good} had all of theirs once");
    good == 100
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let is_asked = |part: &str| asked.is_empty() || asked.iter().any(|one| one == part);
    let mut good = true;
    for part in ["lateness", "burst", "restarts", "alone", "namespaces"] {
        if !is_asked(part) {
            continue;
        }
        let broker = RabbitBroker::start().await.unwrap();
        good &= match part {
            "lateness" => lateness(&broker).await,
            "burst" => burst(&broker).await,
            "restarts" => restarts(&broker).await,
            "alone" => alone(&broker).await,
            _ => namespaces(&broker).await,
        };
    }
    if good { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}
