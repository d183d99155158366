//! Bugs of time, planted around a sound backend: what the suite must find, also beside a busy core.
//!
//! `CONFORMANCE_PLANT=late-delays cargo test --test redis` runs the suite on it; see `scripts/loaded-suites`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use polyqueue::{
    Consumer, Delivery, Destination, Events, Extended, Health, Inbox, Info, Message, MessageId, Published,
    Queue, QueueName, QueueSpec, Receipt, Reschedule, Result, Settled, Subscription, Verdict,
};
use polyqueue_conformance::{
    Bytes, ChildSpec, ConnectOptions, Faults, Footprint, Garbage, Harness, Linked, Namespace, NoFaults,
    Stage, Time, async_trait, run,
};
use tokio::time::{Instant, sleep};

const LATE: Duration = Duration::from_millis(300);

/// Runs the suite on this backend, or on one with the bug that `CONFORMANCE_PLANT` names.
pub(crate) fn run_with_plant(harness: impl Harness) -> ExitCode {
    let plant = match std::env::var("CONFORMANCE_PLANT").ok().filter(|name| !name.is_empty()) {
        None => return run(harness),
        Some(name) => match name.as_str() {
            "late-delays" => Plant::LateDelays,
            "late-deliveries" => Plant::LateDeliveries,
            "no-wake-up" => Plant::NoWakeUp,
            "always-healthy" => Plant::AlwaysHealthy,
            "lost-publishes" => Plant::LostPublishes,
            "untold-acks" => Plant::UntoldAcks,
            "doubled-publishes" => Plant::DoubledPublishes,
            "late-errors" => Plant::LateErrors,
            "deaf-consumers" => Plant::DeafConsumers,
            "hasty-consumers" => Plant::HastyConsumers,
            "flattering-verdicts" => Plant::FlatteringVerdicts,
            "litter" => Plant::Litter,
            _ => {
                eprintln!("CONFORMANCE_PLANT={name}: {PLANTS}");
                return ExitCode::FAILURE;
            }
        },
    };
    // What children say on standard output is read.
    eprintln!("planted: {plant:?}");
    run(Planted { inner: Box::new(harness), plant })
}

const PLANTS: &str = "late-delays, late-deliveries, no-wake-up, always-healthy, lost-publishes, untold-acks, \
                      doubled-publishes, late-errors, deaf-consumers, hasty-consumers, flattering-verdicts or litter";

#[derive(Clone, Copy, Debug)]
enum Plant {
    /// What waits for a time, delayed or retried, comes 300 ms late.
    LateDelays,
    /// Everything comes 300 ms late.
    LateDeliveries,
    /// A waiting receive sees only what is there when it begins and when it ends.
    NoWakeUp,
    /// Health is always good.
    AlwaysHealthy,
    /// A message of sixteen is answered Ok and not sent.
    LostPublishes,
    /// An ack of sixteen is answered `Applied` and not sent.
    UntoldAcks,
    /// What is refused for sure is sent again a second later.
    DoubledPublishes,
    /// An error is told three seconds late.
    LateErrors,
    /// After a second a consumer is given nothing any more.
    DeafConsumers,
    /// A waiting receive asks again and again.
    HastyConsumers,
    /// A verdict that had no effect is answered as if it had.
    FlatteringVerdicts,
    /// With each publish a message is left behind for an hour.
    Litter,
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

    async fn footprint(&self, namespace: &Namespace) -> Result<Option<Footprint>> {
        self.inner.footprint(namespace).await
    }

    fn child(&self) -> Option<ChildSpec> {
        self.inner.child()
    }
}

fn one_of_sixteen() -> bool {
    static CALLS: AtomicU64 = AtomicU64::new(1);
    CALLS.fetch_add(1, Relaxed).is_multiple_of(16)
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
        match self.plant {
            Plant::LateDelays => {
                let late = batch.into_iter().map(|message| self.delayed(message)).collect();
                self.inner.publish(to, late).await
            }
            Plant::LostPublishes if batch.len() == 1 && one_of_sixteen() => {
                Ok(batch.iter().map(|message| Ok(Published::stored(message.id().clone()))).collect())
            }
            Plant::DoubledPublishes => {
                let answers = self.inner.publish(to, batch.clone()).await;
                if answers.as_ref().map_or(true, |answers| answers.iter().any(Result::is_err)) {
                    let (inner, to) = (self.inner.clone(), to.clone());
                    tokio::spawn(async move {
                        sleep(Duration::from_secs(1)).await;
                        inner.publish(&to, batch).await.map(drop)
                    });
                }
                answers
            }
            Plant::Litter => {
                let hour = Duration::from_secs(3_600);
                self.inner.publish(to, vec![Message::new("").with_delay(hour)]).await?;
                self.inner.publish(to, batch).await
            }
            Plant::LateErrors => {
                let answers = self.inner.publish(to, batch).await;
                if answers.as_ref().map_or(true, |answers| answers.iter().any(Result::is_err)) {
                    sleep(Duration::from_secs(3)).await;
                }
                answers
            }
            _ => self.inner.publish(to, batch).await,
        }
    }

    async fn reschedule(&self, queue: &QueueName, id: &MessageId, to: Reschedule) -> Result<bool> {
        self.inner.reschedule(queue, id, to).await
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        let inner = self.inner.subscribe(subscription).await?;
        Ok(Box::new(PlantedConsumer { inner, plant: self.plant, born: Instant::now() }))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.inner.inbox().await
    }

    async fn health(&self) -> Health {
        match self.plant {
            Plant::AlwaysHealthy => Health::good(self.inner.info().provider),
            _ => self.inner.health().await,
        }
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
    born: Instant,
}

#[async_trait]
impl Consumer for PlantedConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        match self.plant {
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
            Plant::DeafConsumers if self.born.elapsed() > Duration::from_secs(1) => {
                sleep(wait).await;
                Ok(Vec::new())
            }
            Plant::HastyConsumers => {
                let began = Instant::now();
                loop {
                    let came = self.inner.receive(max, Duration::ZERO).await?;
                    if !came.is_empty() || began.elapsed() >= wait {
                        return Ok(came);
                    }
                    sleep(Duration::from_millis(2)).await;
                }
            }
            _ => self.inner.receive(max, wait).await,
        }
    }

    async fn settle(&self, verdicts: &[(Receipt, Verdict)]) -> Result<Vec<Result<Settled>>> {
        if let (Plant::UntoldAcks, [(_, Verdict::Ack)]) = (self.plant, verdicts)
            && one_of_sixteen()
        {
            return Ok(vec![Ok(Settled::Applied)]);
        }
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
        let answers = self.inner.settle(&verdicts).await;
        if !matches!(self.plant, Plant::FlatteringVerdicts) {
            return answers;
        }
        let answers = answers.unwrap_or_else(|error| vec![Err(error); verdicts.len()]);
        let flattered = answers.into_iter().zip(&verdicts).map(|(answer, (_, verdict))| match answer {
            Ok(answer @ (Settled::Applied | Settled::Died | Settled::AlreadySettled)) => Ok(answer),
            _ if matches!(verdict, Verdict::DeadLetter { .. }) => Ok(Settled::Died),
            _ => Ok(Settled::Applied),
        });
        Ok(flattered.collect())
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Result<Extended>>> {
        self.inner.extend(receipts).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
