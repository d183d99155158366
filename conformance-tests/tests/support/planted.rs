//! Bugs of time, planted around a sound backend: what the suite must find, also beside a busy core.
//!
//! `CONFORMANCE_PLANT=late-delays cargo test --test redis` runs the suite on it; see `scripts/loaded-suites`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Consumer, Delivery, Destination, Events, Extended, Health, Inbox, Info, Message, MessageId, Published,
    Queue, QueueName, QueueSpec, Receipt, Reschedule, Result, Settled, Subscription, Verdict,
};
use polyqueue_conformance::{
    Bytes, ChildSpec, ConnectOptions, Faults, Garbage, Harness, Linked, Namespace, NoFaults, Stage, Time,
    async_trait, run,
};
use tokio::time::sleep;

const LATE: Duration = Duration::from_millis(300);

/// Runs the suite on this backend, or on one with the bug that `CONFORMANCE_PLANT` names.
pub(crate) fn run_with_plant(harness: impl Harness) -> ExitCode {
    let plant = match std::env::var("CONFORMANCE_PLANT").ok().filter(|name| !name.is_empty()) {
        None => return run(harness),
        Some(name) => match name.as_str() {
            "late-delays" => Plant::LateDelays,
            "late-deliveries" => Plant::LateDeliveries,
            "no-wake-up" => Plant::NoWakeUp,
            _ => {
                eprintln!("CONFORMANCE_PLANT={name}: late-delays, late-deliveries or no-wake-up");
                return ExitCode::FAILURE;
            }
        },
    };
    println!("planted: {plant:?}");
    run(Planted { inner: Box::new(harness), plant })
}

#[derive(Clone, Copy, Debug)]
enum Plant {
    /// What waits for a time, delayed or retried, comes 300 ms late.
    LateDelays,
    /// Everything comes 300 ms late.
    LateDeliveries,
    /// A waiting receive sees only what is there when it begins and when it ends.
    NoWakeUp,
}

struct Planted {
    inner: Box<dyn Harness>,
    plant: Plant,
}

#[async_trait]
impl Harness for Planted {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn open(&self, namespace: &Namespace, options: ConnectOptions) -> Result<Arc<dyn Queue>> {
        Ok(Arc::new(PlantedQueue { inner: self.inner.open(namespace, options).await?, plant: self.plant }))
    }

    fn time(&self) -> Time {
        self.inner.time()
    }

    fn tick(&self) -> Duration {
        self.inner.tick()
    }

    fn lateness(&self) -> Duration {
        self.inner.lateness()
    }

    fn stage(&self) -> Option<&Stage> {
        self.inner.stage()
    }

    async fn faults(&self, namespace: &Namespace) -> Result<Arc<dyn Faults>, NoFaults> {
        self.inner.faults(namespace).await
    }

    async fn link(&self, namespace: &Namespace) -> Result<Linked, NoFaults> {
        self.inner.link(namespace).await
    }

    async fn garbage(&self, namespace: &Namespace, queue: &QueueName, raw: Garbage) -> Result<()> {
        self.inner.garbage(namespace, queue, raw).await
    }

    async fn foreign(&self, namespace: &Namespace, queue: &QueueName, payload: Bytes) -> Result<()> {
        self.inner.foreign(namespace, queue, payload).await
    }

    async fn leftovers(&self, namespace: &Namespace) -> Result<Vec<String>> {
        self.inner.leftovers(namespace).await
    }

    fn child(&self) -> Option<ChildSpec> {
        self.inner.child()
    }
}

#[derive(Debug)]
struct PlantedQueue {
    inner: Arc<dyn Queue>,
    plant: Plant,
}

polyqueue::forward_admin! {
    impl Admin for PlantedQueue => inner
}

impl PlantedQueue {
    /// The wait of a message, made longer where that changes nothing else.
    fn delayed(&self, message: Message) -> Message {
        let delay = message.delay();
        let late = delay + LATE <= self.inner.info().limits.delay && message.ttl().is_none();
        if !delay.is_zero() && late { message.with_delay(delay + LATE) } else { message }
    }
}

#[async_trait]
impl Queue for PlantedQueue {
    fn info(&self) -> Info {
        self.inner.info()
    }

    async fn declare(&self, spec: &QueueSpec) -> Result<()> {
        self.inner.declare(spec).await
    }

    async fn publish(&self, to: &Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        let batch = match self.plant {
            Plant::LateDelays => batch.into_iter().map(|message| self.delayed(message)).collect(),
            Plant::LateDeliveries | Plant::NoWakeUp => batch,
        };
        self.inner.publish(to, batch).await
    }

    async fn reschedule(&self, queue: &QueueName, id: &MessageId, to: Reschedule) -> Result<bool> {
        self.inner.reschedule(queue, id, to).await
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        let inner = self.inner.subscribe(subscription).await?;
        Ok(Box::new(PlantedConsumer { inner, plant: self.plant }))
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
        Ok(Arc::new(Self { inner: self.inner.namespace(namespace)?, plant: self.plant }))
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[derive(Debug)]
struct PlantedConsumer {
    inner: Box<dyn Consumer>,
    plant: Plant,
}

#[async_trait]
impl Consumer for PlantedConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        match self.plant {
            Plant::LateDelays => self.inner.receive(max, wait).await,
            Plant::LateDeliveries => {
                let came = self.inner.receive(max, wait).await?;
                if !came.is_empty() {
                    sleep(LATE).await;
                }
                Ok(came)
            }
            Plant::NoWakeUp => {
                let came = self.inner.receive(max, Duration::ZERO).await?;
                if !came.is_empty() || wait.is_zero() {
                    return Ok(came);
                }
                sleep(wait).await;
                self.inner.receive(max, Duration::ZERO).await
            }
        }
    }

    async fn settle(&self, verdicts: &[(Receipt, Verdict)]) -> Result<Vec<Result<Settled>>> {
        let later = |verdict: &Verdict| match verdict {
            Verdict::Retry { after, error }
                if matches!(self.plant, Plant::LateDelays) && !after.is_zero() =>
            {
                Verdict::Retry { after: *after + LATE, error: error.clone() }
            }
            verdict => verdict.clone(),
        };
        let verdicts: Vec<_> =
            verdicts.iter().map(|(receipt, verdict)| (receipt.clone(), later(verdict))).collect();
        self.inner.settle(&verdicts).await
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Result<Extended>>> {
        self.inner.extend(receipts).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
