//! A drill on the simulated broker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use polyqueue::{ConnectOptions, Queue, Result};
use polyqueue_conformance::drill::Site;
use polyqueue_conformance::{
    Direction, Fail, Fault, Faults, Link, Linked, Outcome, Time, Traffic, async_trait,
};
use polyqueue_memory::{MemoryBroker, SimulatedLink};
use tokio::time::Instant;

/// A simulated broker, in simulated time.
pub(super) struct MemorySite {
    broker: MemoryBroker,
    links: Mutex<HashMap<String, SimulatedLink>>,
}

impl MemorySite {
    pub(super) fn new() -> Self {
        Self { broker: MemoryBroker::new(), links: Mutex::default() }
    }

    /// The link of this URL; who names none has one that nothing happens to.
    fn at(&self, url: &str) -> SimulatedLink {
        let mut links = self.links.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        links.entry(url.to_owned()).or_insert_with(|| self.broker.link()).clone()
    }
}

#[async_trait]
impl Site for MemorySite {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn time(&self) -> Time {
        Time::Virtual
    }

    async fn open(&self, options: ConnectOptions) -> Result<Arc<dyn Queue>> {
        let link = self.at(&options.url);
        link.open(&options).await
    }

    async fn link(&self) -> std::result::Result<Linked, Fail> {
        let nth = self.links.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).len();
        let url = format!("memory://link-{nth}");
        Ok(Linked { link: Arc::new(MemoryLink(self.at(&url))), url })
    }

    fn faults(&self) -> Option<Arc<dyn Faults>> {
        Some(Arc::new(MemoryFaults(self.broker.clone())))
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
            Fault::Alarm => MemoryBroker::alarm,
            Fault::OutOfMemory => MemoryBroker::out_of_memory,
            Fault::ReadOnly => MemoryBroker::read_only,
            _ => return None,
        };
        Some(Box::pin(async move {
            order(&self.0);
            Ok(())
        }))
    }

    async fn heal(&self) -> Outcome {
        self.0.heal();
        Ok(())
    }
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
