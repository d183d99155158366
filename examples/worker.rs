//! Typed handlers, several kinds, two queues, a hook for dead letters, and a graceful stop.

use std::sync::Arc;

use polyqueue::{Death, Failure, Job, Payload, Queue, QueueExt, QueueName, QueueSpec, Worker};
use polyqueue_memory::MemoryQueue;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

const MAIL: QueueName = QueueName::from_static("mail");
const SMS: QueueName = QueueName::from_static("sms");

#[derive(Serialize, Deserialize)]
struct Welcome {
    user: String,
}

impl Payload for Welcome {
    const KIND: &'static str = "welcome";
}

#[derive(Serialize, Deserialize)]
struct Invoice {
    number: u32,
}

impl Payload for Invoice {
    const KIND: &'static str = "invoice";
}

async fn welcome(job: Job<Welcome>) -> Result<(), Failure> {
    println!("{}: welcome, {}", job.queue, job.payload.user);
    Ok(())
}

async fn invoice(job: Job<Invoice>) -> Result<(), Failure> {
    Err(Failure::fatal(format!("invoice {} is void", job.payload.number)))
}

#[tokio::main]
async fn main() -> polyqueue::Result<()> {
    let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::new());
    for name in [MAIL, SMS] {
        queue.declare(&QueueSpec::new(name.clone())).await?;
        queue.send(name, &Welcome { user: "Ada".into() }).await?;
    }
    queue.send(MAIL, &Invoice { number: 7 }).await?;

    let died = Arc::new(Semaphore::new(0));
    let seen = died.clone();
    let worker = Worker::new(queue.clone()).concurrency(4).on(welcome).on(invoice).on_dead_letter(
        move |death: Death| {
            println!("{}: dead, {}", death.queue, death.error);
            seen.add_permits(1);
            std::future::ready(())
        },
    );
    // In a service: `tokio::signal::ctrl_c()`.
    let stop = async move { died.acquire().await.map(drop) };
    let report = worker.run([MAIL, SMS], stop).await?;
    println!("{report:?}");
    assert_eq!(report.died, 1);
    queue.close().await
}
