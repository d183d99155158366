//! What a backend brings so that the suite can run on it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use polyqueue::{ConnectOptions, Queue, QueueName, Result, async_trait};

use crate::{ChildSpec, Faults, Linked, Namespace, NoFaults, Stage};

/// A backend under test.
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// What reports call it. No case ever looks at it.
    fn name(&self) -> &'static str;

    /// A fresh client at each call. `options` hold namespace, deadline and clock; the harness fills in the URL, unless it
    /// is already set (then the client is meant to go over a [link](Harness::link)).
    async fn open(&self, namespace: &Namespace, options: ConnectOptions) -> Result<Arc<dyn Queue>>;

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

    /// Control over the broker that serves this namespace.
    ///
    /// # Errors
    /// [`NoFaults`], which says whether that is as it must be.
    async fn faults(&self, _namespace: &Namespace) -> Result<Arc<dyn Faults>, NoFaults> {
        match self.stage() {
            Some(stage) => stage.faults().await,
            None => Err(NoFaults::Missing),
        }
    }

    /// A new link to the broker that serves this namespace: a [`Proxy`](crate::broker::Proxy), or a simulated one. Asked after
    /// the first [`Harness::open`].
    ///
    /// # Errors
    /// [`NoFaults`], which says whether that is as it must be.
    async fn link(&self, _namespace: &Namespace) -> Result<Linked, NoFaults> {
        match self.stage() {
            Some(stage) => stage.link(),
            None => Err(NoFaults::Missing),
        }
    }

    /// Puts something unreadable where a message of this queue would be.
    async fn garbage(&self, namespace: &Namespace, queue: &QueueName, raw: Garbage) -> Result<()>;

    /// Publishes as a client would that has never heard of this library: a payload and none of our fields.
    async fn foreign(&self, namespace: &Namespace, queue: &QueueName, payload: Bytes) -> Result<()>;

    /// What of this namespace is still on the broker, one line each: keys, queues, exchanges, consumers.
    async fn leftovers(&self, namespace: &Namespace) -> Result<Vec<String>>;

    /// What the broker uses for this namespace; `None` where it cannot be asked.
    async fn footprint(&self, _namespace: &Namespace) -> Result<Option<Footprint>> {
        Ok(None)
    }

    /// How another process reaches the same broker; `None` when none can.
    fn child(&self) -> Option<ChildSpec> {
        self.stage()?.child()
    }
}

/// What a broker uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Keys, or what there is instead.
    pub keys: u64,
    /// Bytes of memory.
    pub bytes: u64,
}

/// Whose clock decides in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// The machine's.
    Real,
    /// Tokio's paused clock, which jumps when nothing else is to be done: only for backends without sockets.
    Virtual,
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
