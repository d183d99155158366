//! A worker over several queues, some of which are deleted under it.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Error, Job, Queue, QueueExt, QueueName, QueueSpec, QueueStats, Report, Result, Worker};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::ext::memory;
use crate::scripted::{Ping, Q, Scripted, away};
use crate::worker_memory::until;

const OTHER: QueueName = QueueName::from_static("other");

async fn two_queues(name: &str) -> (Arc<dyn Queue>, oneshot::Sender<()>, JoinHandle<Result<Report>>) {
    let queue = memory(name).await;
    queue.declare(&QueueSpec::new(OTHER)).await.unwrap();
    let (stop, stopped) = oneshot::channel();
    let worker = Worker::new(queue.clone()).on(async |_: Job<Ping>| Ok(()));
    let running = tokio::spawn(worker.run([Q, OTHER], stopped));
    for name in [Q, OTHER] {
        handles(&queue, &name).await;
    }
    (queue, stop, running)
}

async fn handles(queue: &Arc<dyn Queue>, name: &QueueName) {
    let acked = async || queue.stats(name).await.unwrap().counters.acked;
    let before = acked().await;
    queue.send(name.clone(), &Ping(1)).await.unwrap();
    until("acked", async || acked().await == before + 1).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_deleted_does_not_end_the_others_and_is_served_again() {
    let (queue, stop, running) = two_queues("queues-one").await;
    queue.delete(&OTHER).await.unwrap();
    sleep(Duration::from_secs(3600)).await;
    handles(&queue, &Q).await;
    queue.declare(&QueueSpec::new(OTHER)).await.unwrap();
    handles(&queue, &OTHER).await;
    queue.delete(&Q).await.unwrap();
    handles(&queue, &OTHER).await;
    assert!(!running.is_finished());
    drop(stop);
    assert_eq!(running.await.unwrap().unwrap().acked, 5);
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_any_queue_ends() {
    let (queue, _stop, running) = two_queues("queues-none").await;
    queue.delete(&OTHER).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    queue.delete(&Q).await.unwrap();
    let ended = timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
    assert!(matches!(&ended, Err(Error::NotFound(name)) if *name == Q), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn two_that_are_deleted_together_end_it() {
    let (queue, _stop, running) = two_queues("queues-both").await;
    queue.delete(&OTHER).await.unwrap();
    queue.delete(&Q).await.unwrap();
    let ended = timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
    assert!(matches!(ended, Err(Error::NotFound(_))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn queues_that_are_declared_anew_one_after_the_other_do_not_end_it() {
    let (queue, stop, running) = two_queues("queues-anew").await;
    queue.delete(&OTHER).await.unwrap();
    sleep(Duration::from_secs(20)).await;
    queue.declare(&QueueSpec::new(OTHER)).await.unwrap();
    queue.delete(&Q).await.unwrap();
    queue.declare(&QueueSpec::new(Q)).await.unwrap();
    for name in [Q, OTHER] {
        handles(&queue, &name).await;
    }
    drop(stop);
    assert_eq!(running.await.unwrap().unwrap().acked, 4);
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_the_broker_says_of_each_that_it_is_gone() {
    let gone = || Error::not_found(Q);
    for (answers, ends) in [
        (vec![Err(gone()), Err(gone())], true),
        (vec![Err(gone()), Ok(QueueStats::default())], false),
        (vec![Err(away())], false),
    ] {
        let broker = Scripted::default();
        let worker = Worker::new(broker.queue()).on(async |_: Job<Ping>| Ok(()));
        broker.receive_fails([gone(), gone()]);
        broker.stats_answers(answers.clone());
        let ended = worker.run([Q, OTHER], sleep(Duration::from_secs(60))).await;
        assert_eq!(matches!(ended, Err(Error::NotFound(_))), ends, "{answers:?}: {ended:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_not_kept_waiting_by_one_that_is_gone() {
    let (queue, stop, running) = two_queues("queues-stop").await;
    queue.delete(&OTHER).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    drop(stop);
    let report = timeout(Duration::from_secs(1), running).await.unwrap().unwrap().unwrap();
    assert_eq!(report.acked, 2);
}
