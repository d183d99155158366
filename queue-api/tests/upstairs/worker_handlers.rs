//! Who handles what: kinds, any kind, states, and what does not decode.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{
    Backoff, Bytes, Error, Failure, Handler, HandlerOptions, Job, Message, Payload, QueueName, Refusal,
    Report, Result, RetryPolicy, Verdict, Versions, Worker, with,
};
use tokio::task::JoinHandle;

use crate::scripted::{LEASE, Ping, Q, Scripted, ping};

async fn fine<T: Send>(_: Job<T>) -> Result<(), Failure> {
    Ok(())
}

/// Runs until the broker has that many verdicts.
pub(crate) async fn run_until_settled(broker: &Scripted, worker: Worker, verdicts: usize) -> Report {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(worker.run([Q], stopped));
    broker.until_settled(verdicts).await;
    drop(stop);
    running.await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_handler_gets_its_payload_and_the_message() {
    let broker = Scripted::default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let worker = Worker::new(broker.queue()).on(with(seen.clone(), async |seen, job: Job<Ping>| {
        seen.lock().push((job.payload.0, job.attempt, job.queue, job.message.headers()["k"].clone()));
        Ok(())
    }));
    broker.ready_again("a", 3, ping(7).with_header("k", "v"));
    let report = run_until_settled(&broker, worker, 1).await;
    assert_eq!(*seen.lock(), [(7, 3, Q, "v".to_owned())]);
    assert_eq!(broker.verdicts(), [("a".to_owned(), Verdict::Ack)]);
    assert_eq!((report.received, report.handled, report.acked), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn every_form_of_a_handler_works() {
    struct Own(AtomicU32);
    impl Handler<Ping> for Own {
        async fn handle(&self, job: Job<Ping>) -> Result<(), Failure> {
            self.0.fetch_add(job.payload.0, SeqCst);
            Ok(())
        }
    }
    let (own, sum) = (Arc::new(Own(AtomicU32::new(0))), Arc::new(AtomicU32::new(0)));
    let captured = sum.clone();
    let forms: [Box<dyn Fn(Worker) -> Worker>; 5] = [
        Box::new(|worker| worker.on(fine::<Ping>)),
        Box::new(|worker| worker.on(async |_: Job<Ping>| Ok(()))),
        Box::new(|worker| {
            worker.on(|job: Job<Ping>| async move { if job.payload.0 > 0 { Ok(()) } else { Err("0")? } })
        }),
        Box::new(move |worker| {
            let captured = captured.clone();
            worker.on(move |job: Job<Ping>| {
                let captured = captured.clone();
                async move {
                    captured.fetch_add(job.payload.0, SeqCst);
                    Ok(())
                }
            })
        }),
        {
            let own = own.clone();
            Box::new(move |worker| worker.on(own.clone()))
        },
    ];
    for form in forms {
        let broker = Scripted::default();
        broker.ready("a", ping(5));
        let report = run_until_settled(&broker, form(Worker::new(broker.queue())), 1).await;
        assert_eq!(report.acked, 1);
    }
    assert_eq!((own.0.load(SeqCst), sum.load(SeqCst)), (5, 5));
}

/// Borrows what it is given and spawns what comes back: compiles only while the future is `Send + 'static`.
#[tokio::test(start_paused = true)]
async fn the_future_can_be_spawned() {
    fn spawned(worker: Worker, queues: &[QueueName]) -> JoinHandle<Result<Report>> {
        tokio::spawn(worker.run(queues.iter().cloned(), async { "any output" }))
    }
    let broker = Scripted::default();
    let handle = spawned(Worker::new(broker.queue()).on(fine::<Ping>), &[Q]);
    assert_eq!(handle.await.unwrap().unwrap(), Report::default());
}

#[tokio::test(start_paused = true)]
async fn on_others_gets_the_bytes_of_what_has_no_handler() {
    let broker = Scripted::default();
    broker.ready("other", Message::new("raw").with_kind("other"));
    broker.ready("ping", ping(1));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let any = with(seen.clone(), async |seen, job: Job<Bytes>| {
        seen.lock().push(job.payload);
        Ok(())
    });
    let worker = Worker::new(broker.queue()).on(fine::<Ping>).on_others_with(any, HandlerOptions::new());
    assert_eq!(run_until_settled(&broker, worker, 2).await.acked, 2);
    assert_eq!(*seen.lock(), [Bytes::from("raw")]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_decode_dies_alone() {
    let broker = Scripted::default();
    broker.ready("a", ping(1));
    broker.ready("garbage", Message::new(vec![0xff, 0x00]).with_kind("ping"));
    broker.ready("b", ping(2));
    let report = run_until_settled(&broker, Worker::new(broker.queue()).on(fine::<Ping>), 3).await;
    let verdicts = broker.verdicts();
    let garbage = verdicts.iter().find(|(id, _)| id == "garbage").unwrap();
    assert!(
        matches!(&garbage.1, Verdict::DeadLetter { reason: Refusal::Undecodable, error } if !error.is_empty())
    );
    assert_eq!((report.acked, report.died), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn another_major_version_is_warned_of_or_rejected() {
    for (versions, version, acked) in [
        (Versions::Warn, "2.0.0", 1),
        (Versions::Reject, "2.0.0", 0),
        (Versions::Reject, "1.9.3", 1),
        (Versions::Reject, "10.0.0", 0),
    ] {
        let broker = Scripted::default();
        broker.ready("a", ping(1).with_schema_version(version));
        let worker = Worker::new(broker.queue()).on(fine::<Ping>).versions(versions);
        let report = run_until_settled(&broker, worker, 1).await;
        assert_eq!((report.acked, report.died), (acked, 1 - acked), "{versions:?} {version}");
    }
    let broker = Scripted::default();
    let plain = Message::new("7").with_kind("ping");
    broker.ready("a", plain);
    let worker = Worker::new(broker.queue()).on(fine::<Ping>).versions(Versions::Reject);
    assert_eq!(run_until_settled(&broker, worker, 1).await.acked, 1, "no version is taken as it is");
}

#[tokio::test(start_paused = true)]
async fn the_subscription_says_what_the_worker_was_told() {
    let broker = Scripted::default();
    let lease = Duration::from_secs(7);
    let five = RetryPolicy::new(5, Backoff::default()).unwrap();
    let worker = || Worker::new(broker.queue()).on(fine::<Ping>).concurrency(3);
    worker().consumer("me").lease(lease).retry(five).run([Q], async {}).await.unwrap();
    worker().prefetch(9).run([Q], async {}).await.unwrap();
    let [told, usual] = &broker.subscriptions()[..] else { panic!() };
    assert_eq!((told.prefetch, told.consumer.as_str()), (3, "me"));
    assert_eq!((told.lease, told.max_attempts.get()), (lease, 5));
    assert_eq!((usual.prefetch, usual.lease, usual.max_attempts.get()), (9, LEASE, 4));
}

#[tokio::test(start_paused = true)]
async fn bad_settings_are_refused_before_anything_is_fetched() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Twin;
    impl Payload for Twin {
        const KIND: &'static str = "ping";
    }
    let broker = Scripted::default();
    let worker = || Worker::new(broker.queue()).on(fine::<Ping>);
    for (worker, queues, field) in [
        (worker().on(fine::<Twin>), vec![Q], "handlers"),
        (worker().on_others(fine::<Bytes>).on_others(fine::<Bytes>), vec![Q], "handlers"),
        (Worker::new(broker.queue()), vec![Q], "handlers"),
        (worker().on_dead_letter(async |_| {}).on_dead_letter(async |_| {}), vec![Q], "dead letter hook"),
        (worker(), vec![], "queues"),
        (worker(), vec![Q, Q], "queues"),
        (worker().concurrency(0), vec![Q], "concurrency"),
        (worker().concurrency(4).prefetch(3), vec![Q], "prefetch"),
    ] {
        let error = worker.run(queues, std::future::pending::<()>()).await.unwrap_err();
        assert!(matches!(&error, Error::Invalid { field: found, .. } if found == field), "{error}");
    }
    assert_eq!(broker.calls(), []);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_queue_ends_it_at_the_start_and_closes_the_others() {
    let broker = Scripted::default();
    let nowhere = QueueName::from_static("nowhere");
    let run =
        Worker::new(broker.queue()).on(fine::<Ping>).run([Q, nowhere.clone()], std::future::pending::<()>());
    assert!(matches!(run.await, Err(Error::NotFound(name)) if name == nowhere));
    assert_eq!(broker.calls(), [crate::scripted::Call::Close(Q)]);
}
