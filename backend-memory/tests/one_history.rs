//! Under a paused clock there is one history: whoever runs the same program again sees the same, to the millisecond.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{
    Admin, Consumer, Destination, Message, MessageId, Overflow, Pattern, Priority, Queue, QueueName,
    QueueSpec, RoutingKey, Subscription, Verdict,
};
use polyqueue_memory::MemoryQueue;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const RUNS: usize = 50;
const JOBS: QueueName = QueueName::from_static("jobs");
const NARROW: QueueName = QueueName::from_static("narrow");

/// What happened, and when.
#[derive(Clone)]
struct Diary {
    began: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Diary {
    fn note(&self, what: String) {
        self.lines.lock().push(format!("{:?} {what}", self.began.elapsed()));
    }
}

#[test]
fn fifty_runs_are_one_history() {
    let first = run();
    assert!(first.len() > 300, "{first:#?}");
    for nth in 1..RUNS {
        assert_eq!(run(), first, "run {nth}");
    }
}

fn run() -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(program())
}

async fn program() -> Vec<String> {
    let diary = Diary { began: Instant::now(), lines: Arc::default() };
    let queue = Arc::new(MemoryQueue::new());
    let all = Pattern::new("#").unwrap();
    queue.declare(&QueueSpec::new(JOBS).bind(all.clone())).await.unwrap();
    queue.declare(&QueueSpec::new(NARROW).bind(all).bound(7, Overflow::Block)).await.unwrap();
    let mut tasks = Vec::new();
    for nth in 0..4 {
        tasks.push(reader(&queue, nth, diary.clone()).await);
        tasks.push(writer(&queue, nth, diary.clone()));
    }
    sleep(Duration::from_secs(20)).await;
    queue.delete(&NARROW).await.unwrap();
    sleep(Duration::from_secs(20)).await;
    queue.close().await.unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    diary.lines.lock().clone()
}

/// Publishes to both queues, some messages for later and some for not long.
fn writer(queue: &Arc<MemoryQueue>, nth: u64, diary: Diary) -> JoinHandle<()> {
    let (queue, to) = (queue.clone(), Destination::from(RoutingKey::new("a.b").unwrap()));
    tokio::spawn(async move {
        for number in 0..40 {
            let millis = (nth * 40 + number) * 7_919 % 900;
            let message = Message::new("x")
                .with_id(MessageId::new(format!("{nth}-{number}")).unwrap())
                .with_priority(Priority::new(u8::try_from(1 + millis % 10).unwrap()).unwrap())
                .with_delay(Duration::from_millis(if number % 3 == 0 { millis } else { 0 }))
                .with_ttl(Duration::from_millis(1_000 + 3 * millis));
            let answer = queue.publish(&to, vec![message]).await.map(|answers| answers[0].is_ok());
            diary.note(format!("writer {nth} {number} {answer:?}"));
            sleep(Duration::from_millis(millis)).await;
        }
    })
}

/// Takes from one queue, retries some, and leaves some to the end of their lease.
async fn reader(queue: &MemoryQueue, nth: u64, diary: Diary) -> JoinHandle<()> {
    let subscription = Subscription::new(if nth == 0 { NARROW } else { JOBS })
        .lease(Duration::from_millis(700))
        .max_attempts(NonZeroU32::new(3).unwrap());
    let consumer: Arc<dyn Consumer> = queue.subscribe(&subscription).await.unwrap().into();
    tokio::spawn(async move {
        loop {
            let got = match consumer.receive(2, Duration::from_secs(5)).await {
                Ok(got) => got,
                Err(end) => return diary.note(format!("reader {nth} {end}")),
            };
            for delivery in got {
                let number = delivery.message.id().as_str().len() as u64 + u64::from(delivery.attempt) + nth;
                let verdict = match number % 4 {
                    0 => Some(Verdict::retry(Duration::from_millis(300), "again")),
                    1 => None,
                    _ => Some(Verdict::Ack),
                };
                diary.note(format!(
                    "reader {nth} {} {} {verdict:?}",
                    delivery.message.id(),
                    delivery.attempt
                ));
                if let Some(verdict) = verdict {
                    consumer.settle(&[(delivery.receipt, verdict)]).await.ok();
                }
            }
            sleep(Duration::from_millis(50 * (nth + 1))).await;
        }
    })
}
