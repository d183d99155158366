//! Request and reply: a requester asks over a queue, a worker answers, and a failure comes back as an error.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Error, Failure, Job, Payload, Queue, QueueName, QueueSpec, Requester, Worker};
use polyqueue_memory::MemoryQueue;
use serde::{Deserialize, Serialize};

const CALCULATOR: QueueName = QueueName::from_static("calculator");

#[derive(Serialize, Deserialize)]
struct Divide {
    a: i64,
    b: i64,
}

impl Payload for Divide {
    const KIND: &'static str = "divide";
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Quotient(i64);

impl Payload for Quotient {
    const KIND: &'static str = "quotient";
}

async fn divide(job: Job<Divide>) -> Result<Quotient, Failure> {
    let Divide { a, b } = job.payload;
    // `?` on an error would try again; this will not get better.
    a.checked_div(b).map(Quotient).ok_or_else(|| Failure::fatal("division by zero"))
}

#[tokio::main]
async fn main() -> polyqueue::Result<()> {
    let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::new());
    queue.declare(&QueueSpec::new(CALCULATOR)).await?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = tokio::spawn(Worker::new(queue.clone()).on_request(divide).run([CALCULATOR], stopped));

    let requester = Requester::open(queue.clone()).await?;
    let timeout = Duration::from_secs(5);
    let answer: Quotient = requester.request(CALCULATOR, &Divide { a: 42, b: 6 }, timeout).await?;
    println!("42 / 6 = {}", answer.0);
    assert_eq!(answer, Quotient(7));

    let failed = requester.request::<_, Quotient>(CALCULATOR, &Divide { a: 1, b: 0 }, timeout).await;
    println!("1 / 0: {}", failed.as_ref().expect_err("it cannot be"));
    assert!(matches!(failed, Err(Error::Remote(_))));

    drop(stop);
    worker.await.expect("it does not panic")?;
    queue.close().await
}
