//! Many threads on the real clock: nothing is lost, nothing is handed out twice.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use polyqueue::{
    Admin, Consumer, Delivery, Message, Priority, Queue, QueueName, Settled, Subscription, Verdict,
};
use polyqueue_memory::MemoryQueue;

const QUEUE: QueueName = QueueName::from_static("load");
const PUBLISHERS: usize = 8;
const EACH: usize = 1_500;
const ALL: usize = PUBLISHERS * EACH;
const WAIT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_and_nothing_is_handed_out_twice() {
    let queue = Arc::new(MemoryQueue::new());
    queue.declare(&QUEUE.into()).await.unwrap();
    let left = Arc::new(AtomicUsize::new(ALL));
    let consumers: Vec<Arc<dyn Consumer>> = subscribe(&queue, 6).await;
    let mut readers = Vec::new();
    for (nth, consumer) in consumers.iter().enumerate() {
        readers.push(tokio::spawn(read(consumer.clone(), nth, left.clone())));
    }
    let publishers: Vec<_> = (0..PUBLISHERS).map(|nth| tokio::spawn(publish(queue.clone(), nth))).collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    // Whoever acks the last message closes nothing: the test ends the receives that still wait.
    while left.load(Relaxed) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for consumer in &consumers {
        consumer.close().await.unwrap();
    }
    let mut attempts: HashMap<String, Vec<u32>> = HashMap::new();
    for reader in readers {
        for (text, attempt) in reader.await.unwrap() {
            attempts.entry(text).or_default().push(attempt);
        }
    }
    assert_eq!(attempts.len(), ALL, "nothing is lost");
    for (text, mut seen) in attempts {
        seen.sort_unstable();
        let expected: Vec<u32> = (1..=seen.len() as u32).collect();
        assert_eq!(seen, expected, "{text}: every attempt once");
    }
    let stats = queue.stats(&QUEUE).await.unwrap();
    let counted = (stats.ready, stats.delayed, stats.in_flight, stats.dead);
    assert_eq!(counted, (0, Some(0), Some(0), 0));
    assert_eq!((stats.counters.published, stats.counters.acked), (ALL as u64, ALL as u64));
}

async fn subscribe(queue: &MemoryQueue, consumers: usize) -> Vec<Arc<dyn Consumer>> {
    let mut all: Vec<Arc<dyn Consumer>> = Vec::new();
    for nth in 0..consumers {
        let terms = Subscription::new(QUEUE).lease(Duration::from_secs(600)).prefetch(nth % 3 * 4);
        all.push(queue.subscribe(&terms).await.unwrap().into());
    }
    all
}

async fn publish(queue: Arc<MemoryQueue>, nth: usize) {
    for i in 0..EACH {
        let message = Message::new(format!("{nth}-{i}"))
            .with_priority(Priority::new((i % 10) as i64 + 1).unwrap())
            .with_delay(Duration::from_millis(if i % 7 == 0 { i as u64 % 30 } else { 0 }));
        queue.publish(&QUEUE.into(), vec![message]).await.unwrap().remove(0).unwrap();
        if i % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Acks most, retries some of first attempts, drops some receives while they wait; until the consumer is closed.
async fn read(consumer: Arc<dyn Consumer>, nth: usize, left: Arc<AtomicUsize>) -> Vec<(String, u32)> {
    let mut seen = Vec::new();
    for turn in 0.. {
        let got = if turn % 3 == 0 {
            let patience = Duration::from_micros(turn % 11 * 100);
            // Dropped while it waits: what it was handed and never returned must go to others.
            let Ok(got) = tokio::time::timeout(patience, consumer.receive(nth + 1, WAIT)).await else {
                continue;
            };
            got.unwrap()
        } else {
            consumer.receive(nth + 1, WAIT).await.unwrap()
        };
        if got.is_empty() {
            break;
        }
        let verdicts: Vec<_> = got.iter().map(|one| (one.receipt.clone(), verdict(one))).collect();
        seen.extend(got.iter().map(|one| (text(one), one.attempt)));
        for (answer, (_, verdict)) in consumer.settle(&verdicts).await.unwrap().into_iter().zip(&verdicts) {
            assert_eq!(answer.unwrap(), Settled::Applied);
            if *verdict == Verdict::Ack {
                left.fetch_sub(1, Relaxed);
            }
        }
    }
    seen
}

fn verdict(delivery: &Delivery) -> Verdict {
    if delivery.attempt == 1 && delivery.message.payload().last() == Some(&b'3') {
        return Verdict::retry(Duration::from_millis(3), "once more");
    }
    Verdict::Ack
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.payload().to_vec()).unwrap()
}
