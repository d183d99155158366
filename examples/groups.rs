//! Consumer groups: each group is a queue that is bound alike. Each group receives all, its members share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use polyqueue::{
    Bytes, HandlerOptions, Job, Message, Pattern, Queue, QueueExt, QueueName, QueueSpec, RoutingKey, Worker,
    with,
};
use polyqueue_memory::MemoryQueue;

const MAILERS: QueueName = QueueName::from_static("signup.mailers");
const STATISTICS: QueueName = QueueName::from_static("signup.statistics");
const SIGNUPS: u32 = 30;

/// Works off a queue with three members; answers how many each of them handled.
async fn run_group(queue: &Arc<dyn Queue>, name: QueueName) -> polyqueue::Result<Vec<u32>> {
    let (all, done) = (Arc::new(AtomicU32::new(0)), Arc::new(tokio::sync::Notify::new()));
    let mut members = Vec::new();
    for _ in 0..3 {
        let (own, all, done) = (Arc::new(AtomicU32::new(0)), all.clone(), done.clone());
        let state = (own.clone(), all, done.clone());
        let handler = with(state, async |(own, all, done), _job: Job<Bytes>| {
            own.fetch_add(1, Relaxed);
            tokio::task::yield_now().await;
            if all.fetch_add(1, Relaxed) + 1 == SIGNUPS {
                done.notify_waiters();
            }
            Ok(())
        });
        let stop = async move { done.notified().await };
        let worker = Worker::new(queue.clone()).concurrency(1).on_others_with(handler, HandlerOptions::new());
        members.push((own, tokio::spawn(worker.run([name.clone()], stop))));
    }
    let mut handled = Vec::new();
    for (own, member) in members {
        member.await.expect("no member panics")?;
        handled.push(own.load(Relaxed));
    }
    Ok(handled)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> polyqueue::Result<()> {
    let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::new());
    for group in [MAILERS, STATISTICS] {
        queue.declare(&QueueSpec::new(group).bind(Pattern::new("user.signup")?)).await?;
    }
    for number in 0..SIGNUPS {
        queue.publish_one(RoutingKey::new("user.signup")?, Message::new(number.to_string())).await?;
    }
    // The statistics sleep while the mailers work: nothing is lost for them.
    for group in [MAILERS, STATISTICS] {
        let handled = run_group(&queue, group.clone()).await?;
        println!("{group}: {handled:?}");
        assert_eq!(handled.iter().sum::<u32>(), SIGNUPS);
    }
    queue.close().await
}
