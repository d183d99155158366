//! What a worker holds beyond its handlers, and who waits for whom there.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{Job, Queue, QueueStats, Worker, with};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep};

use crate::ext::memory;
use crate::scripted::{Ping, Q, ping};
use crate::worker_memory::{run_until_empty, until};

async fn stats(queue: &Arc<dyn Queue>) -> QueueStats {
    queue.stats(&Q).await.unwrap()
}

/// As many as were asked for, for a second; then no more than there are handlers, and nobody has had an attempt at the rest.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_second_is_given_back_unburned() {
    let queue = memory("prefetched").await;
    queue.publish(&Q.into(), (0..20).map(ping).collect()).await.unwrap();
    let (gate, attempts) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
    let worker = Worker::new(queue.clone()).concurrency(2).prefetch(8).on(with(
        (gate.clone(), attempts.clone()),
        async |(gate, attempts), job: Job<Ping>| {
            gate.acquire().await?.forget();
            attempts.lock().push(job.attempt);
            Ok(())
        },
    ));
    let (stop, stopped) = oneshot::channel::<()>();
    let (running, began) = (tokio::spawn(worker.run([Q], stopped)), Instant::now());
    until("prefetched", async || stats(&queue).await.in_flight == Some(8)).await;
    until("given back", async || stats(&queue).await.in_flight == Some(2)).await;
    let waited = began.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_millis(1100)).contains(&waited), "{waited:?}");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(stats(&queue).await.in_flight, Some(2));
    gate.add_permits(20);
    until("all ran", async || attempts.lock().len() == 20).await;
    drop(stop);
    assert_eq!((running.await.unwrap().unwrap().acked, attempts.lock().clone()), (20, vec![1; 20]));
}

/// One blocks its thread until the verdicts on all others are through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_waits_for_one_that_blocks_its_thread() {
    for blocks in 0..6 {
        let queue = memory(&format!("blocked{blocks}")).await;
        let ((open, gate), left) = (mpsc::channel::<()>(), Arc::new(AtomicUsize::new(blocks)));
        let worker = Worker::new(queue.clone()).on(with(
            (Arc::new(Mutex::new(gate)), left),
            async |(gate, left), _: Job<Ping>| {
                if left.fetch_sub(1, SeqCst) == 0 {
                    gate.lock().recv_timeout(Duration::from_secs(60))?;
                }
                Ok(())
            },
        ));
        let acked = queue.clone();
        tokio::spawn(async move {
            until("the others are acked", async || stats(&acked).await.counters.acked == 15).await;
            open.send(())
        });
        queue.publish(&Q.into(), (0..16).map(ping).collect()).await.unwrap();
        assert_eq!(run_until_empty(&queue, worker).await.acked, 16);
    }
}
