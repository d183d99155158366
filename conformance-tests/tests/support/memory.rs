//! The memory backend under test: a simulated broker of its own for each case, in virtual time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use polyqueue::{Admin, ConnectOptions, Message, Queue, QueueName, Result};
use polyqueue_conformance::{
    Bytes, Direction, Fault, Faults, Garbage, Harness, Link, Linked, Namespace, NoFaults, Outcome, Time,
    Traffic, async_trait,
};
use polyqueue_memory::{MemoryBroker, MemoryQueue, SimulatedLink};
use tokio::time::Instant;

/// Two paused clocks cannot share a broker, so each namespace has its own.
#[derive(Default)]
pub(crate) struct Memory(Mutex<HashMap<String, Place>>);

/// The broker of a namespace, and the links to it by their URLs.
struct Place {
    broker: MemoryBroker,
    links: HashMap<String, SimulatedLink>,
}

impl Place {
    fn new() -> Self {
        Self { broker: MemoryBroker::new(), links: HashMap::new() }
    }

    fn add_link(&mut self, url: String) -> SimulatedLink {
        self.links.entry(url).or_insert_with(|| self.broker.link()).clone()
    }
}

impl Memory {
    fn at<T>(&self, namespace: &Namespace, look: impl FnOnce(&mut Place) -> T) -> T {
        look(self.0.lock().entry(namespace.name().into()).or_insert_with(Place::new))
    }

    fn broker(&self, namespace: &Namespace) -> MemoryBroker {
        self.at(namespace, |place| place.broker.clone())
    }

    /// Beside all links: an operator's own.
    fn beside(&self, namespace: &Namespace) -> Result<MemoryQueue> {
        self.broker(namespace).beside(&ConnectOptions::new("").namespace(namespace.name()))
    }
}

#[async_trait]
impl Harness for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn open(&self, namespace: &Namespace, options: ConnectOptions) -> Result<Arc<dyn Queue>> {
        // Whoever names no link goes over one that nothing happens to.
        let link = self.at(namespace, |place| place.add_link(options.url.clone()));
        link.open(&options).await
    }

    fn time(&self) -> Time {
        Time::Virtual
    }

    fn tick(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn faults(&self, namespace: &Namespace) -> Result<Arc<dyn Faults>, NoFaults> {
        Ok(Arc::new(MemoryFaults(self.broker(namespace))))
    }

    async fn link(&self, namespace: &Namespace) -> Result<Linked, NoFaults> {
        Ok(self.at(namespace, |place| {
            let url = format!("memory://link-{}", place.links.len());
            Linked { link: Arc::new(MemoryLink(place.add_link(url.clone()))), url }
        }))
    }

    async fn garbage(&self, namespace: &Namespace, queue: &QueueName, raw: Garbage) -> Result<()> {
        let body = match raw {
            Garbage::BrokenField { body, .. } | Garbage::FutureVersion { body } => body,
            _ => Bytes::new(),
        };
        self.beside(namespace)?.publish_unreadable(queue, body)
    }

    async fn foreign(&self, namespace: &Namespace, queue: &QueueName, payload: Bytes) -> Result<()> {
        let answers = self.beside(namespace)?.publish(&queue.into(), vec![Message::new(payload)]).await?;
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    }

    async fn leftovers(&self, namespace: &Namespace) -> Result<Vec<String>> {
        let left = self.beside(namespace)?.queues().await?;
        if left.is_empty() {
            self.0.lock().remove(namespace.name());
        }
        Ok(left.iter().map(|spec| format!("queue {}", spec.name)).collect())
    }
}

struct MemoryFaults(MemoryBroker);

#[async_trait]
impl Faults for MemoryFaults {
    fn offer(&self, fault: Fault) -> Option<BoxFuture<'_, Outcome>> {
        let order: fn(&MemoryBroker) = match fault {
            Fault::Kill9 | Fault::StopGracefully => MemoryBroker::kill9,
            Fault::Pause => MemoryBroker::pause,
            Fault::CloseConnections => MemoryBroker::close_connections,
            Fault::Wipe => MemoryBroker::wipe,
            Fault::Alarm => MemoryBroker::alarm,
            Fault::OutOfMemory => MemoryBroker::out_of_memory,
            Fault::ReadOnly => MemoryBroker::read_only,
            Fault::ClockShift(millis) => return Some(given(move || self.0.shift_clock(millis))),
            _ => return None,
        };
        Some(given(move || order(&self.0)))
    }

    async fn heal(&self) -> Outcome {
        self.0.heal();
        Ok(())
    }
}

/// An order that is given when it is awaited.
fn given<'a>(order: impl FnOnce() + Send + 'a) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        order();
        Ok(())
    })
}

#[derive(Debug)]
struct MemoryLink(SimulatedLink);

fn way(direction: Direction) -> polyqueue_memory::Direction {
    match direction {
        Direction::ToBroker => polyqueue_memory::Direction::ToBroker,
        Direction::ToClient => polyqueue_memory::Direction::ToClient,
    }
}

impl Link for MemoryLink {
    fn cut(&self) {
        self.0.cut();
    }

    fn cut_after(&self, direction: Direction, bytes: u64) {
        self.0.cut_after(way(direction), bytes);
    }

    fn swallow(&self, direction: Direction) {
        self.0.swallow(way(direction));
    }

    fn slow(&self, bytes_per_second: u64) {
        self.0.slow(bytes_per_second);
    }

    fn delay(&self, time: Duration) {
        self.0.delay(time);
    }

    fn refuse(&self) {
        self.0.refuse();
    }

    fn accept_and_close(&self) {
        self.0.accept_and_close();
    }

    fn heal(&self) {
        self.0.heal();
    }

    fn traffic(&self) -> Traffic {
        Traffic {
            connections: self.0.attempts().len() as u64,
            open: self.0.open_connections(),
            to_broker: self.0.passed(polyqueue_memory::Direction::ToBroker),
            to_client: self.0.passed(polyqueue_memory::Direction::ToClient),
            cuts: self.0.cuts(),
        }
    }

    fn attempts(&self) -> Vec<Instant> {
        self.0.attempts()
    }
}
