//! A link to the simulated broker, and the orders that it takes.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{ConnectOptions, Queue, Result};
use tokio::time::Instant;

use crate::broker::namespace::Broker;
use crate::queue::MemoryQueue;
use crate::simulation::call::Wire;
use crate::simulation::client::LinkedQueue;
use crate::simulation::line::{Direction, Line, Rules};
use crate::simulation::session::Session;

/// A way to a [`MemoryBroker`](crate::MemoryBroker), over which clients go as over a network: each call is a request of so many
/// bytes, its payloads and a constant, and an answer of so many. A clone is the same link.
///
/// Orders take effect at once, for open connections and later ones alike, and last until [`SimulatedLink::heal`]. What is cut
/// in the request has no effect and fails as definite; what is cut in the answer has its effect and fails as unknown. What is
/// withheld arrives later, whether its caller waits for it or not.
#[derive(Clone, Debug)]
pub struct SimulatedLink {
    broker: Arc<Broker>,
    line: Arc<Line>,
}

impl SimulatedLink {
    pub(crate) fn new(broker: Arc<Broker>, line: Line) -> Self {
        Self { broker, line: Arc::new(line) }
    }

    /// A fresh client that goes over this link. Its queues are durable: they survive all that the broker can suffer but
    /// [`MemoryBroker::wipe`](crate::MemoryBroker::wipe).
    ///
    /// # Errors
    /// A definite [`Error::Unavailable`](polyqueue::Error::Unavailable) when there is no connection within the deadline; else as
    /// [`MemoryQueue::connect`](crate::MemoryQueue::connect).
    pub async fn open(&self, options: &ConnectOptions) -> Result<Arc<dyn Queue>> {
        options.check()?;
        let inner = MemoryQueue::at(self.broker.clone(), options)?;
        let events = inner.event_sender();
        let wire = Wire::new(self.line.clone(), options.deadline, events.clone());
        wire.connect().await?;
        Ok(Arc::new(LinkedQueue::new(Session::new(Arc::new(inner), wire, events))))
    }

    /// Cuts all connections now. New ones are let through.
    pub fn cut(&self) {
        self.line.order(|_, seen| seen.cuts += 1);
    }

    /// Lets `bytes` more through in one direction, over all connections together, then cuts all.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.line.order(|rules, _| rules.allowance[direction as usize] = Some(bytes));
    }

    /// Lets nothing through in one direction any more; what is withheld arrives when healed, unless it is cut first.
    pub fn swallow(&self, direction: Direction) {
        self.line.order(|rules, _| rules.swallow[direction as usize] = true);
    }

    /// Passes at most so many bytes on in a second, in each direction, over all connections together.
    pub fn slow(&self, bytes_per_second: u64) {
        self.line.order(|rules, _| rules.slow = Some(bytes_per_second.max(1)));
    }

    /// Passes everything on after `time`.
    pub fn delay(&self, time: Duration) {
        self.line.order(|rules, _| rules.delay = time);
    }

    /// Refuses new connections; those that are open stay.
    pub fn refuse(&self) {
        self.line.order(|rules, _| rules.refuse = true);
    }

    /// Closes every new connection as soon as it is made; those that are open stay.
    pub fn accept_and_close(&self) {
        self.line.order(|rules, _| rules.close_new = true);
    }

    /// Takes back every order. Connections that were cut stay cut.
    pub fn heal(&self) {
        self.line.order(|rules, _| *rules = Rules::default());
    }

    /// When each connection was opened that was not refused.
    pub fn attempts(&self) -> Vec<Instant> {
        self.line.look(|_, seen| seen.attempts.clone())
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> u64 {
        self.line.open()
    }

    /// Bytes that have passed in this direction.
    pub fn passed(&self, direction: Direction) -> u64 {
        self.line.look(|_, seen| seen.passed[direction as usize])
    }

    /// How often everything was cut.
    pub fn cuts(&self) -> u64 {
        self.line.look(|_, seen| seen.cuts)
    }
}
