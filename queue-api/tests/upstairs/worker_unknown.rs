//! Kinds that no handler of a worker knows.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use parking_lot::Mutex;
use polyqueue::{
    DeadFilter, DeadReason, Failure, HandlerOptions, Job, Message, Page, Payload, Queue, QueueExt, Refusal,
    Report, Unknown, Verdict, Worker, chrono, with,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::ext::memory;
use crate::scripted::{Ping, Q, Scripted, ping};
use crate::worker_handlers::run_until_settled;
use crate::worker_memory::until;

const SECOND: Duration = Duration::from_secs(1);
const EACH: u64 = 1000;

#[derive(serde::Serialize, serde::Deserialize)]
struct Pong;

impl Payload for Pong {
    const KIND: &'static str = "pong";
}

fn started(worker: Worker) -> (oneshot::Sender<()>, JoinHandle<polyqueue::Result<Report>>) {
    let (stop, stopped) = oneshot::channel();
    (stop, tokio::spawn(worker.run([Q], stopped)))
}

fn knows<T: Payload>(queue: &Arc<dyn Queue>, attempts: &Arc<Mutex<Vec<u32>>>) -> Worker {
    Worker::new(queue.clone()).on(with(attempts.clone(), async |attempts, job: Job<T>| {
        attempts.lock().push(job.attempt);
        Ok(())
    }))
}

async fn all_acked(queue: &Arc<dyn Queue>, messages: u64) {
    until("all acked", async || queue.stats(&Q).await.unwrap().counters.acked == messages).await;
    assert_eq!(queue.stats(&Q).await.unwrap().dead, 0);
}

#[tokio::test(start_paused = true)]
async fn two_services_share_a_queue() {
    let queue = memory("unknown-two").await;
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let (stop, pings) = started(knows::<Ping>(&queue, &attempts));
    let (stop_too, pongs) = started(knows::<Pong>(&queue, &attempts));
    for n in 0..EACH {
        queue.send(Q, &Ping(n as u32)).await.unwrap();
        queue.send(Q, &Pong).await.unwrap();
    }
    all_acked(&queue, 2 * EACH).await;
    drop((stop, stop_too));
    let (pings, pongs) = (pings.await.unwrap().unwrap(), pongs.await.unwrap().unwrap());
    assert_eq!((pings.acked, pongs.acked), (EACH, EACH));
    assert_eq!(*attempts.lock(), vec![1; 2 * EACH as usize]);
}

#[tokio::test(start_paused = true)]
async fn a_producer_may_be_there_before_its_consumer() {
    let queue = memory("unknown-early").await;
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let (stop, old) = started(knows::<Ping>(&queue, &attempts));
    for _ in 0..EACH {
        queue.send(Q, &Pong).await.unwrap();
    }
    sleep(60 * SECOND).await;
    let (stop_too, new) = started(knows::<Pong>(&queue, &attempts));
    all_acked(&queue, EACH).await;
    drop((stop, stop_too));
    assert_eq!(old.await.unwrap().unwrap().died, 0);
    assert_eq!(new.await.unwrap().unwrap().acked, EACH);
    assert_eq!(*attempts.lock(), vec![1; EACH as usize]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_knew_for_an_hour_is_a_dead_letter() {
    let queue = memory("unknown-hour").await;
    let ago = |seconds| Message::of(&Pong).unwrap().with_published_at(Utc::now() - SECOND * seconds);
    queue.publish_one(Q, ago(3500)).await.unwrap();
    queue.publish_one(Q, ago(3601)).await.unwrap();
    let (stop, worker) = started(knows::<Ping>(&queue, &Arc::default()));
    until("one died", async || queue.stats(&Q).await.unwrap().dead == 1).await;
    drop(stop);
    let report = worker.await.unwrap().unwrap();
    assert_eq!((report.died, report.handled), (1, 0));
    let page = queue.dead_letters(&Q, &DeadFilter::all(), Page::first(9)).await.unwrap();
    let letter = &page.dead_letters[0];
    assert_eq!((letter.reason, letter.attempts), (DeadReason::Rejected, 1));
    assert_eq!(letter.error, r#"no handler for kind "pong": none knew it for 3600s"#);
}

async fn verdict_on(message: Message, told: impl FnOnce(Worker) -> Worker) -> Verdict {
    let broker = Scripted::default();
    broker.ready("other", message.with_kind("other"));
    let worker = Worker::new(broker.queue()).on(async |_: Job<Ping>| Ok(()));
    run_until_settled(&broker, told(worker), 1).await;
    broker.verdicts().remove(0).1
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_told_what_to_do_with_them() {
    let old = || Message::new("").with_published_at(Utc::now() - 8 * SECOND);
    let text = r#"no handler for kind "other""#;
    let Verdict::Release { after } = verdict_on(old(), |worker| worker).await else { panic!() };
    assert!((2 * SECOND..3 * SECOND).contains(&after), "a quarter of its age: {after:?}");
    let failed = Verdict::retry(SECOND, text);
    assert_eq!(verdict_on(Message::new(""), |worker| worker).await, failed, "of unknown age");
    assert_eq!(verdict_on(old(), |worker| worker.unknown(Unknown::Retry)).await, failed);
    assert_eq!(verdict_on(old(), |worker| worker.unknown(Unknown::DeadLetter)).await, Verdict::reject(text));
    let soon = verdict_on(old(), |worker| worker.unknown_for(5 * SECOND)).await;
    assert_eq!(soon, Verdict::reject(format!("{text}: none knew it for 5s")));
    let inferred = |worker: Worker| {
        worker.on_others(|job| async move {
            assert!(job.payload.is_empty());
            Ok(())
        })
    };
    assert_eq!(verdict_on(old(), inferred).await, Verdict::Ack);
    let options = HandlerOptions::new().timeout(Duration::MAX);
    let fails = |worker: Worker| {
        worker.on_others_with(async |_: Job<polyqueue::Bytes>| Err(Failure::fatal("no")), options)
    };
    let refused = Verdict::DeadLetter { reason: Refusal::Rejected, error: "no".into() };
    assert_eq!(verdict_on(old(), fails).await, refused);
}

#[tokio::test(start_paused = true)]
async fn the_next_one_flows() {
    let broker = Scripted::default();
    broker.ready("other", Message::new("").with_kind("other").with_published_at(Utc::now()));
    broker.ready("ping", ping(1));
    let worker = Worker::new(broker.queue()).on(async |_: Job<Ping>| Ok(()));
    let report = run_until_settled(&broker, worker, 2).await;
    assert_eq!((report.handled, report.acked, report.released), (1, 1, 1));
}
