//! The simulated broker: its state survives, its clients' connections need not.

use std::fmt;
use std::sync::Arc;

use polyqueue::{ConnectOptions, Result};

use crate::address::DEFAULT_MAX_BYTES;
use crate::broker::namespace::Broker;
use crate::queue::MemoryQueue;
use crate::simulation::line::Line;
use crate::simulation::link::SimulatedLink;
use crate::simulation::world::{Condition, World};

/// A broker that can fail, for tests of what stands above a queue: its messages survive it as on a disk, and clients reach it
/// over [links](SimulatedLink) that can be cut. It knows only tokio's clock: under a paused one, one seed gives one history.
///
/// ```
/// use polyqueue::{ConnectOptions, Error, Message, QueueName};
/// use polyqueue_memory::MemoryBroker;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> polyqueue::Result<()> {
/// const MAIL: QueueName = QueueName::from_static("mail");
/// let broker = MemoryBroker::new();
/// let link = broker.link();
/// let queue = link.open(&ConnectOptions::new("").deadline(std::time::Duration::from_secs(1))).await?;
/// queue.declare(&MAIL.into()).await?;
/// broker.kill9();
/// let answer = queue.publish(&MAIL.into(), vec![Message::new("hello")]).await;
/// assert!(matches!(answer, Err(Error::Unavailable { .. })));
/// broker.heal();
/// queue.publish(&MAIL.into(), vec![Message::new("hello again")]).await?;
/// # Ok(())
/// # }
/// ```
///
/// Every state lasts until [`MemoryBroker::heal`].
#[derive(Clone)]
pub struct MemoryBroker {
    broker: Arc<Broker>,
    world: Arc<World>,
}

impl MemoryBroker {
    /// A broker of its own with room for 1 GiB.
    pub fn new() -> Self {
        Self::with_max_bytes(DEFAULT_MAX_BYTES)
    }

    /// The same with room for `bytes`, as [`MemoryQueue::with_max_bytes`] counts them.
    pub fn with_max_bytes(bytes: u64) -> Self {
        Self { broker: Broker::private(bytes), world: Arc::default() }
    }

    /// A new link to it.
    pub fn link(&self) -> SimulatedLink {
        SimulatedLink::new(self.broker.clone(), Line::new(self.world.clone()))
    }

    /// A handle beside all links, which no fault reaches: for a look at what is there.
    ///
    /// # Errors
    /// As [`MemoryQueue::connect`].
    pub fn beside(&self, options: &ConnectOptions) -> Result<MemoryQueue> {
        MemoryQueue::at(self.broker.clone(), options)
    }

    /// Ends it at once: connections and calls under way with it, messages and leases not.
    pub fn kill9(&self) {
        self.world.change(|it| {
            it.up = false;
            it.epoch += 1;
        });
    }

    /// Answers nobody any more; connections stay open.
    pub fn pause(&self) {
        self.world.change(|it| it.paused = true);
    }

    /// Closes all connections.
    pub fn close_connections(&self) {
        self.world.change(|it| it.epoch += 1);
    }

    /// Loses every queue, with all that is in it. Clients declare again what they know, at their next use of it.
    pub fn wipe(&self) {
        self.broker.wipe();
        self.world.change(|it| it.wipes += 1);
    }

    /// Holds back whoever publishes, and serves everybody else.
    pub fn alarm(&self) {
        self.world.change(|it| it.alarm = true);
    }

    /// Refuses what needs more memory: messages and queues.
    pub fn out_of_memory(&self) {
        self.world.change(|it| it.out_of_memory = true);
    }

    /// Refuses everything that changes anything.
    pub fn read_only(&self) {
        self.world.change(|it| it.read_only = true);
    }

    /// Puts its wall clock so many milliseconds ahead; behind, where negative. What waits goes by another clock.
    pub fn shift_clock(&self, millis: i64) {
        self.broker.clock.shift(millis);
    }

    /// Makes it well: started, running, every state taken back. What it lost stays lost, and connections that ended stay ended.
    pub fn heal(&self) {
        self.shift_clock(0);
        self.world.change(|it| *it = Condition { epoch: it.epoch, wipes: it.wipes, ..Condition::WELL });
    }
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker").field("condition", &self.world.now()).finish_non_exhaustive()
    }
}
