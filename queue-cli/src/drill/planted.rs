//! Bugs planted around a sound backend: each must be found.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use polyqueue::{
    ConnectOptions, Consumer, Delivery, Destination, Events, Extended, Health, Inbox, Info, Message,
    MessageId, Published, Queue, QueueName, QueueSpec, Receipt, Reschedule, Result, Settled, Subscription,
    Verdict, forward_admin,
};
use polyqueue_conformance::drill::{Only, Order, Report, Site, Watch, run};
use polyqueue_conformance::{Fail, Faults, Linked, Time, async_trait};
use tokio::time::sleep;

use super::memory::MemorySite;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Plant {
    Nothing,
    /// One publish in a hundred is answered and not made.
    PublishLost,
    /// One ack in a hundred is answered and not given.
    AckForgotten,
    /// Delays are half as long.
    Early,
    /// What came is handed on after eight seconds.
    Slow,
    /// What came is handed out once more, at once.
    Twice,
}

struct PlantedSite(MemorySite, Plant);

#[async_trait]
impl Site for PlantedSite {
    fn name(&self) -> &'static str {
        "planted"
    }

    fn time(&self) -> Time {
        self.0.time()
    }

    async fn open(&self, options: ConnectOptions) -> Result<Arc<dyn Queue>> {
        Ok(Arc::new(Planted { inner: self.0.open(options).await?, plant: self.1, calls: AtomicU64::new(1) }))
    }

    async fn link(&self) -> std::result::Result<Linked, Fail> {
        self.0.link().await
    }

    fn faults(&self) -> Option<Arc<dyn Faults>> {
        self.0.faults()
    }
}

#[derive(Debug)]
struct Planted {
    inner: Arc<dyn Queue>,
    plant: Plant,
    calls: AtomicU64,
}

forward_admin! { impl Admin for Planted => inner }

#[async_trait]
impl Queue for Planted {
    fn info(&self) -> Info {
        self.inner.info()
    }

    async fn declare(&self, spec: &QueueSpec) -> Result<()> {
        self.inner.declare(spec).await
    }

    async fn publish(&self, to: &Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        if self.plant == Plant::PublishLost && self.calls.fetch_add(1, Relaxed).is_multiple_of(100) {
            return Ok(batch.iter().map(|message| Ok(Published::stored(message.id().clone()))).collect());
        }
        let halved = |message: Message| {
            let delay = message.delay();
            message.with_delay(if self.plant == Plant::Early { delay / 2 } else { delay })
        };
        self.inner.publish(to, batch.into_iter().map(halved).collect()).await
    }

    async fn reschedule(&self, queue: &QueueName, id: &MessageId, to: Reschedule) -> Result<bool> {
        self.inner.reschedule(queue, id, to).await
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        let inner = self.inner.subscribe(subscription).await?;
        Ok(Box::new(PlantedConsumer { inner, plant: self.plant, calls: AtomicU64::new(1) }))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.inner.inbox().await
    }

    async fn health(&self) -> Health {
        self.inner.health().await
    }

    fn events(&self) -> Events {
        self.inner.events()
    }

    fn namespace(&self, namespace: &str) -> Result<Arc<dyn Queue>> {
        self.inner.namespace(namespace)
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[derive(Debug)]
struct PlantedConsumer {
    inner: Box<dyn Consumer>,
    plant: Plant,
    calls: AtomicU64,
}

#[async_trait]
impl Consumer for PlantedConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let mut came = self.inner.receive(max, wait).await?;
        if self.plant == Plant::Slow && !came.is_empty() {
            sleep(Duration::from_secs(8)).await;
        }
        if self.plant == Plant::Twice && self.calls.fetch_add(1, Relaxed).is_multiple_of(50) {
            came.extend(came.first().cloned());
        }
        Ok(came)
    }

    async fn settle(&self, verdicts: &[(Receipt, Verdict)]) -> Result<Vec<Result<Settled>>> {
        if self.plant == Plant::AckForgotten && self.calls.fetch_add(1, Relaxed).is_multiple_of(100) {
            return Ok(verdicts.iter().map(|_| Ok(Settled::Applied)).collect());
        }
        self.inner.settle(verdicts).await
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Result<Extended>>> {
        self.inner.extend(receipts).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

fn drilled(plant: Plant, only: Option<Only>, seed: u64) -> Report {
    let order = Order { only, ..Order::new(seed, Duration::from_secs(20)) };
    run(Arc::new(PlantedSite(MemorySite::new(), plant)), &order, &Arc::new(Watch::default())).unwrap()
}

#[test]
fn a_sound_backend_keeps_every_promise() {
    for only in [None, Some(Only::Cuts), Some(Only::Kills)] {
        for seed in 1..=5 {
            let report = drilled(Plant::Nothing, only, seed);
            assert!(report.passed(), "{report}");
            let (faults, published, acked) = (report.faults, report.published, report.acked);
            assert!(faults > 5 && published > 1_000 && acked > 500, "{report}");
        }
    }
}

#[test]
fn who_is_killed_has_something_in_hand() {
    let order = Order { only: Some(Only::Kills), ..Order::new(7, Duration::from_secs(80)) };
    let report = run(Arc::new(MemorySite::new()), &order, &Arc::new(Watch::default())).unwrap();
    assert!(report.passed() && report.faults >= 30 && report.duplicates > 0, "{report}");
}

#[test]
fn each_planted_bug_is_found() {
    for (plant, rule) in [
        (Plant::PublishLost, "lost"),
        (Plant::AckForgotten, "after_ack"),
        (Plant::Early, "early"),
        (Plant::Slow, "late"),
        (Plant::Twice, "double_holder"),
    ] {
        let report = drilled(plant, None, 7);
        let found = report.violations.iter().any(|violation| violation.rule == rule);
        assert!(found && !report.passed(), "{plant:?} is not found: {report}");
    }
}

#[test]
fn a_seed_brings_the_same_faults_again() {
    let steps = |seed| {
        let report = drilled(Plant::Nothing, None, seed);
        report.timeline.into_iter().map(|it| it.what).collect::<Vec<_>>()
    };
    assert_eq!(steps(7), steps(7));
    assert_ne!(steps(7), steps(8));
}
