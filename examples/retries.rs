//! What fails is tried again, later each time; the handler sees which attempt it is and why the last one failed.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use polyqueue::{
    Backoff, Bytes, Failure, Job, Message, Queue, QueueExt, QueueName, QueueSpec, RetryPolicy, Worker,
};
use polyqueue_memory::MemoryQueue;
use tokio::sync::Notify;

const WELCOME: QueueName = QueueName::from_static("welcome");

#[tokio::main]
async fn main() -> polyqueue::Result<()> {
    let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::new());
    queue.declare(&QueueSpec::new(WELCOME)).await?;
    queue.publish_one(WELCOME, Message::new("welcome, Ada")).await?;

    let (attempts, done, started) =
        (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()), Instant::now());
    let (seen, finished) = (attempts.clone(), done.clone());
    let handler = move |job: Job<Bytes>| {
        println!(
            "attempt {} after {:?}, last error: {:?}",
            job.attempt,
            started.elapsed(),
            job.message.last_error()
        );
        seen.lock().expect("nobody panics holding it").push(started.elapsed());
        let finished = finished.clone();
        async move {
            if job.attempt < 3 {
                return Err(Failure::from("the mail server is down"));
            }
            finished.notify_one();
            Ok(())
        }
    };
    let backoff = Backoff::new(Duration::from_millis(200), 2.0, Duration::from_secs(30))?;
    let worker = Worker::new(queue.clone()).retry(RetryPolicy::new(4, backoff)?).on_others(handler);
    worker.run([WELCOME], async move { done.notified().await }).await?;

    let attempts = attempts.lock().expect("nobody panics holding it").clone();
    assert_eq!(attempts.len(), 3);
    assert!(attempts[1] - attempts[0] >= Duration::from_millis(200), "the first wait");
    assert!(attempts[2] - attempts[1] >= Duration::from_millis(400), "twice as long");
    queue.close().await
}
