//! The memory backend under test: a broker of its own for each case, in virtual time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{ConnectOptions, Message, Queue, QueueName, Result};
use polyqueue_conformance::{Bytes, Garbage, Harness, Linked, Namespace, NoFaults, Time, async_trait};
use polyqueue_memory::MemoryQueue;

/// Keeps each case's broker until its leftovers are looked for: as with any other broker, a case may drop all its clients.
#[derive(Default)]
pub(crate) struct Memory(Mutex<HashMap<String, MemoryQueue>>);

impl Memory {
    /// Two paused clocks cannot share a broker, so each namespace has its own.
    fn options(namespace: &Namespace, mut options: ConnectOptions) -> ConnectOptions {
        options.url = format!("memory://{}", namespace.name());
        options
    }

    fn open_here(namespace: &Namespace) -> Result<MemoryQueue> {
        MemoryQueue::connect(&Self::options(namespace, ConnectOptions::new("").namespace(namespace.name())))
    }
}

#[async_trait]
impl Harness for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn open(&self, namespace: &Namespace, options: ConnectOptions) -> Result<Arc<dyn Queue>> {
        if !self.0.lock().contains_key(namespace.name()) {
            self.0.lock().insert(namespace.name().into(), Self::open_here(namespace)?);
        }
        polyqueue_memory::PROVIDER.connect(Self::options(namespace, options)).await
    }

    fn time(&self) -> Time {
        Time::Virtual
    }

    fn tick(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn faults(&self, _: &Namespace) -> Result<Arc<dyn polyqueue_conformance::Faults>, NoFaults> {
        Err(NoFaults::NotApplicable("the broker is not a process".into()))
    }

    async fn link(&self, _: &Namespace) -> Result<Linked, NoFaults> {
        Err(NoFaults::NotApplicable("needs sockets".into()))
    }

    async fn garbage(&self, namespace: &Namespace, queue: &QueueName, raw: Garbage) -> Result<()> {
        let body = match raw {
            Garbage::BrokenField { body, .. } | Garbage::FutureVersion { body } => body,
            _ => Bytes::new(),
        };
        Self::open_here(namespace)?.publish_unreadable(queue, body)
    }

    async fn foreign(&self, namespace: &Namespace, queue: &QueueName, payload: Bytes) -> Result<()> {
        let answers = Self::open_here(namespace)?.publish(&queue.into(), vec![Message::new(payload)]).await?;
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    }

    async fn leftovers(&self, namespace: &Namespace) -> Result<Vec<String>> {
        use polyqueue::Admin;
        let left = Self::open_here(namespace)?.queues().await?;
        if left.is_empty() {
            self.0.lock().remove(namespace.name());
        }
        Ok(left.iter().map(|spec| format!("queue {}", spec.name)).collect())
    }
}
