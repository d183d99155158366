//! Allocations a message, on memory: put, receive and settle one at a time, and the same through a [`Worker`].
//!
//! ```sh
//! cargo run --release --manifest-path benchmarks/Cargo.toml --bin allocations
//! ```

use std::alloc::System;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use polyqueue::{Message, Queue, QueueName, QueueSpec, Subscription, Verdict, Worker};
use polyqueue_memory::MemoryQueue;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::sync::Notify;

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESSAGES: usize = 20_000;
const NAME: QueueName = QueueName::from_static("counted");

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::new());
    queue.declare(&QueueSpec::new(NAME)).await?;
    contract(&*queue).await?;
    let counted = Region::new(COUNTED);
    contract(&*queue).await?;
    report("put + receive + settle", &counted);

    publish(&*queue, MESSAGES).await?;
    worker(queue.clone(), MESSAGES).await?;
    publish(&*queue, MESSAGES).await?;
    let counted = Region::new(COUNTED);
    worker(queue, MESSAGES).await?;
    report("worker, concurrency 16: receive + handle + settle", &counted);
    Ok(())
}

fn report(what: &str, counted: &Region<'_, System>) {
    let change = counted.change();
    let (allocations, bytes) = (change.allocations + change.reallocations, change.bytes_allocated);
    println!(
        "{what}: {:.2} allocations, {} bytes a message",
        allocations as f64 / MESSAGES as f64,
        bytes / MESSAGES
    );
}

async fn publish(queue: &dyn Queue, messages: usize) -> Outcome {
    let payload = Bytes::from_static(&[b'x'; 256]);
    for _ in 0..messages {
        for answer in queue.publish(&NAME.into(), vec![Message::new(payload.clone())]).await? {
            answer?;
        }
    }
    Ok(())
}

async fn contract(queue: &dyn Queue) -> Outcome {
    let consumer = queue.subscribe(&Subscription::new(NAME)).await?;
    for _ in 0..MESSAGES {
        publish(queue, 1).await?;
        for delivery in consumer.receive(1, Duration::ZERO).await? {
            for answer in consumer.settle(&[(delivery.receipt, Verdict::Ack)]).await? {
                answer?;
            }
        }
    }
    Ok(consumer.close().await?)
}

async fn worker(queue: Arc<dyn Queue>, messages: usize) -> Outcome {
    let (left, done) = (Arc::new(AtomicUsize::new(messages)), Arc::new(Notify::new()));
    let last = done.clone();
    let worker = Worker::new(queue).concurrency(16).on_others(move |_: polyqueue::Job<Bytes>| {
        if left.fetch_sub(1, Relaxed) == 1 {
            last.notify_one();
        }
        async { Ok(()) }
    });
    worker.run([NAME], async move { done.notified().await }).await?;
    Ok(())
}
