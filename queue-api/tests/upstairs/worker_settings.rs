//! Settings of any size: taken or refused, never a panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use polyqueue::{
    Backoff, Bytes, Counters, Error, Failure, HandlerOptions, Job, Queue, QueueExt, Requester, RetryPolicy,
    Worker,
};
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use crate::ext::memory;
use crate::scripted::{Ping, Q};

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::MAX),
        Just(Duration::from_secs(u64::MAX)),
        Just(Duration::MAX / 2),
        Just(YEAR),
        (0..100_000_u64).prop_map(Duration::from_millis),
        any::<u64>().prop_map(Duration::from_secs),
    ]
}

fn counts() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), Just(1), Just(usize::MAX), Just(usize::MAX / 2), 0..100_usize, any::<usize>()]
}

fn attempts() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(u32::MAX), 1..9_u32]
}

#[derive(Clone, Debug)]
struct Settings {
    waits: [Duration; 8],
    counts: [usize; 3],
    attempts: [u32; 3],
    seed: u64,
    others: bool,
}

fn settings() -> impl Strategy<Value = Settings> {
    let each = (prop::array::uniform8(durations()), prop::array::uniform3(counts()));
    (each, prop::array::uniform3(attempts()), any::<(u64, bool)>()).prop_map(
        |((waits, counts), attempts, (seed, others))| Settings { waits, counts, attempts, seed, others },
    )
}

/// A policy of these numbers, or what is usual where they are refused.
fn policy(attempts: u32, immediate: u32, first: Duration, max: Duration) -> RetryPolicy {
    let backoff = Backoff::new(first, 2.0, max).unwrap_or_default().immediate_first(immediate);
    RetryPolicy::new(attempts, backoff).unwrap_or_default()
}

fn paused() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

async fn fresh() -> Arc<dyn Queue> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    memory(&format!("settings{}", NEXT.fetch_add(1, SeqCst))).await
}

/// Has options of its own too, and is answered.
#[derive(serde::Serialize, serde::Deserialize)]
struct Ask;

impl polyqueue::Payload for Ask {
    const KIND: &'static str = "ask";
}

fn worker(queue: &Arc<dyn Queue>, Settings { waits, counts, attempts, seed, .. }: Settings) -> Worker {
    let again = waits[0];
    let own = HandlerOptions::new()
        .retry(policy(attempts[0], attempts[1], waits[1], waits[2]))
        .timeout(waits[3])
        .concurrency(counts[0]);
    Worker::new(queue.clone())
        .concurrency(counts[1])
        .prefetch(counts[2])
        .lease(waits[4])
        .timeout(waits[5])
        .retry(policy(attempts[2], attempts[1], waits[2], waits[1]))
        .stop_deadline(waits[6])
        .unknown_for(waits[7])
        .seed(seed)
        .on_request_with(async |job: Job<Ask>| Ok(job.payload), own.clone())
        .on_with(
            move |job: Job<Ping>| async move {
                match job.payload.0 {
                    0 => Ok(()),
                    1 => Err(Failure::retry_after(again, "again")),
                    _ => Err(Failure::Snooze(again)),
                }
            },
            own,
        )
}

/// One message that is done, one that is retried as it says, one that waits, a request, and one of a kind that no handler knows or
/// that one for all others takes.
async fn work(settings: Settings) -> Result<(), Error> {
    let queue = fresh().await;
    let mut worker = worker(&queue, settings.clone());
    if settings.others {
        let own = HandlerOptions::new().timeout(settings.waits[3]).concurrency(settings.counts[0]);
        worker = worker.on_others_with(async |_: Job<Bytes>| Ok(()), own);
    }
    for n in 0..3 {
        queue.send(Q, &Ping(n)).await?;
    }
    queue.send(Q, &Ask).await?;
    queue.publish_one(Q, polyqueue::Message::new("?").with_kind("unknown")).await?;
    worker.run([Q], some_work(queue.clone())).await.map(drop)
}

/// Until something has become of a message, and a little longer.
async fn some_work(queue: Arc<dyn Queue>) {
    for _ in 0..1000 {
        let Counters { acked, died, retried, .. } = queue.stats(&Q).await.unwrap().counters;
        if acked + died + retried > 0 {
            return sleep(Duration::from_millis(5)).await;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("nothing was done");
}

async fn request(wait: Duration) -> Error {
    let queue = fresh().await;
    let requester = Requester::open(queue.clone()).await.unwrap();
    let asked = requester.request::<_, Ping>(Q, &Ping(1), wait);
    let closed = async {
        sleep(Duration::from_secs(3600)).await;
        queue.close().await.unwrap();
    };
    tokio::join!(asked, closed).0.unwrap_err()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_worker_takes_or_refuses_every_number(settings in settings()) {
        // Waits of nothing would keep a paused clock from going on.
        let ended = Builder::new_current_thread().enable_all().build().unwrap().block_on(work(settings));
        prop_assert!(matches!(ended, Ok(()) | Err(Error::Invalid { .. })), "{ended:?}");
    }

    #[test]
    fn a_request_waits_as_long_as_it_is_told(wait in durations()) {
        let error = paused().block_on(request(wait));
        let expected = if wait < Duration::from_secs(3600) { "timed out" } else { "closed" };
        prop_assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn a_policy_knows_a_wait_for_every_failure(
        (attempts, immediate, failures) in (attempts(), attempts(), any::<u32>()),
        (first, max) in (durations(), durations()),
    ) {
        let wait = policy(attempts, immediate, first, max).backoff().delay(failures, 0.5);
        prop_assert!(wait <= YEAR);
    }
}

#[test]
fn the_largest_settings_work() {
    let most = Duration::MAX;
    paused().block_on(async {
        let queue = fresh().await;
        queue.send(Q, &Ping(1)).await.unwrap();
        let own = HandlerOptions::new().concurrency(usize::MAX).timeout(most);
        let worker = Worker::new(queue.clone())
            .concurrency(usize::MAX)
            .stop_deadline(most)
            .timeout(most)
            .unknown_for(most)
            .seed(u64::MAX)
            .on_with(async |_: Job<Ping>| Ok(()), own);
        let report = worker.run([Q], sleep(Duration::from_secs(1))).await.unwrap();
        assert_eq!(report.acked, 1);
    });
}
