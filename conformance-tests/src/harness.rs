//! What a backend brings so that the suite can run on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use polyqueue::{ConnectOptions, Queue, QueueName, Result, async_trait};

use crate::{Env, Outcome, Stage};

/// A backend under test.
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// What reports call it. No case ever looks at it.
    fn name(&self) -> &'static str;

    /// A fresh client at each call. `options` hold namespace, deadline and clock; the harness fills in the URL, unless it
    /// is already set (then the client is meant to go through a proxy).
    async fn open(&self, env: &Env, options: ConnectOptions) -> Result<Arc<dyn Queue>>;

    /// Whose clock decides.
    fn time(&self) -> Time {
        Time::Real
    }

    /// T, the unit of all waits: long enough that the backend's own latency does not matter.
    fn tick(&self) -> Duration;

    /// The smallest bound that "in time" is judged by; calibration may raise it.
    fn lateness(&self) -> Duration {
        Duration::from_millis(100)
    }

    /// The broker of the run, where it is a process of its own: what is known of it then follows.
    fn stage(&self) -> Option<&Stage> {
        None
    }

    /// Control over the broker's process.
    ///
    /// # Errors
    /// [`NoFaults`], which says whether that is as it must be.
    async fn faults(&self) -> Result<Arc<dyn Faults>, NoFaults> {
        match self.stage() {
            Some(stage) => stage.faults().await,
            None => Err(NoFaults::Missing),
        }
    }

    /// Where the broker listens; `None` when there are no sockets. Asked after the first [`Harness::open`].
    fn broker(&self) -> Option<SocketAddr> {
        self.stage()?.address()
    }

    /// The URL of the broker, seen through a proxy that listens at `proxy`.
    fn through(&self, proxy: SocketAddr) -> Option<String> {
        self.stage()?.through(proxy)
    }

    /// Puts something unreadable where a message of this queue would be.
    async fn garbage(&self, env: &Env, queue: &QueueName, raw: Garbage) -> Result<()>;

    /// Publishes as a client would that has never heard of this library: a payload and none of our fields.
    async fn foreign(&self, env: &Env, queue: &QueueName, payload: Bytes) -> Result<()>;

    /// What of this environment's namespace is still on the broker, one line each: keys, queues, exchanges, consumers.
    async fn leftovers(&self, env: &Env) -> Result<Vec<String>>;

    /// How another process reaches the same broker; `None` when none can.
    fn child(&self) -> Option<ChildSpec> {
        self.stage()?.child()
    }
}

/// Whose clock decides in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// The machine's.
    Real,
    /// Tokio's paused clock, which jumps when nothing else is to be done: only for backends without sockets.
    Virtual,
}

/// What can happen to a broker's process. Every one lasts until [`Faults::heal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Killed, as by a power cut. Down until healed.
    Kill9,
    /// Stopped in order. Down until healed.
    StopGracefully,
    /// Stopped from running (SIGSTOP), connections open. Nobody answers until healed.
    Pause,
    /// All client connections closed by the broker, which stays up.
    CloseConnections,
}

/// Control over the broker's process.
#[async_trait]
pub trait Faults: Send + Sync {
    /// Makes it happen.
    async fn apply(&self, fault: Fault) -> Outcome;

    /// Makes the broker well again: started, running, ready for clients. The runner calls it after each case too.
    async fn heal(&self) -> Outcome;
}

/// Why there is no control over the broker's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoFaults {
    /// There is nothing to control, for this reason: the cases are not applicable.
    NotApplicable(String),
    /// The harness does not offer it: the cases are skipped, which fails the run unless allowed.
    Missing,
}

/// What is put where a message would be. Each must become a dead letter, `undecodable`, whose raw bytes are `body`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Garbage {
    /// No body at all (Redis: an entry without `data`; its raw bytes are the backend's to choose). Where a message always
    /// has one: a [`Garbage::BrokenField`].
    NoBody,
    /// One of our fields is there and cannot be read.
    BrokenField {
        /// The body beside it.
        body: Bytes,
        /// Which of the fields: the harness counts them as it likes, modulo their number.
        field: usize,
        /// What stands in it; never something that any of our fields may hold.
        value: String,
    },
    /// The wire format of a major version that does not exist yet.
    FutureVersion {
        /// The body beside it.
        body: Bytes,
    },
}

/// How another process reaches the same broker.
#[derive(Clone, Debug, Default)]
pub struct ChildSpec {
    /// Variables for its environment, from which its harness finds the broker: for example `REDIS_URL`.
    pub vars: Vec<(String, String)>,
}
