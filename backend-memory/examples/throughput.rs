//! How many messages a second are published, delivered and acked: `cargo run --release -p polyqueue-memory --example throughput`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use polyqueue::{Message, Queue, QueueName, Result, Settled, Subscription, Verdict};
use polyqueue_memory::MemoryQueue;

const QUEUE: QueueName = QueueName::from_static("load");
const MESSAGES: usize = 2_000_000;
const PUBLISHERS: usize = 64;
const CONSUMERS: usize = 2;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let queue = Arc::new(MemoryQueue::with_max_bytes(8 << 30));
    queue.declare(&QUEUE.into()).await?;
    let begun = Instant::now();
    let publishers = (0..PUBLISHERS).map(|_| tokio::spawn(publish(queue.clone())));
    let consumers = (0..CONSUMERS).map(|_| tokio::spawn(consume(queue.clone())));
    let tasks: Vec<_> = publishers.chain(consumers).collect();
    let mut acked = 0;
    for task in tasks {
        acked += task.await.expect("no task panics")?;
    }
    let rate = acked as f64 / begun.elapsed().as_secs_f64();
    println!("{acked} messages, {rate:.0} a second published, delivered and acked");
    Ok(())
}

async fn publish(queue: Arc<MemoryQueue>) -> Result<usize> {
    let payload = polyqueue::Bytes::from(vec![b'x'; 256]);
    for _ in 0..MESSAGES / PUBLISHERS {
        queue.publish(&QUEUE.into(), vec![Message::new(payload.clone())]).await?.remove(0)?;
    }
    Ok(0)
}

/// Until nothing came for a second.
async fn consume(queue: Arc<MemoryQueue>) -> Result<usize> {
    let consumer = queue.subscribe(&Subscription::new(QUEUE)).await?;
    let mut acked = 0;
    loop {
        let got = consumer.receive(64, Duration::from_secs(1)).await?;
        if got.is_empty() {
            return Ok(acked);
        }
        let verdicts: Vec<_> = got.iter().map(|delivery| (delivery.receipt.clone(), Verdict::Ack)).collect();
        for answer in consumer.settle(&verdicts).await? {
            acked += usize::from(answer? == Settled::Applied);
        }
    }
}
