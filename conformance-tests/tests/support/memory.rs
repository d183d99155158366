//! The memory backend under test: a broker of its own for each case, in virtual time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{ConnectOptions, Message, Queue, QueueName, Result};
use polyqueue_conformance::{Bytes, Env, Garbage, Harness, NoFaults, Time, async_trait};
use polyqueue_memory::MemoryQueue;

/// Keeps each case's broker until its leftovers are looked for: as with any other broker, a case may drop all its clients.
#[derive(Default)]
pub(crate) struct Memory(Mutex<HashMap<String, MemoryQueue>>);

impl Memory {
    /// Two paused clocks cannot share a broker, so each namespace has its own.
    fn options(env: &Env, mut options: ConnectOptions) -> ConnectOptions {
        options.url = format!("memory://{}", env.namespace());
        options
    }

    fn open_here(env: &Env) -> Result<MemoryQueue> {
        MemoryQueue::connect(&Self::options(env, ConnectOptions::new("").namespace(env.namespace())))
    }
}

#[async_trait]
impl Harness for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn open(&self, env: &Env, options: ConnectOptions) -> Result<Arc<dyn Queue>> {
        if !self.0.lock().contains_key(env.namespace()) {
            self.0.lock().insert(env.namespace().into(), Self::open_here(env)?);
        }
        polyqueue_memory::PROVIDER.connect(Self::options(env, options)).await
    }

    fn time(&self) -> Time {
        Time::Virtual
    }

    fn tick(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn faults(&self) -> Result<Arc<dyn polyqueue_conformance::Faults>, NoFaults> {
        Err(NoFaults::NotApplicable("the broker is not a process".into()))
    }

    async fn garbage(&self, env: &Env, queue: &QueueName, raw: Garbage) -> Result<()> {
        let body = match raw {
            Garbage::BrokenField { body, .. } | Garbage::FutureVersion { body } => body,
            _ => Bytes::new(),
        };
        Self::open_here(env)?.publish_unreadable(queue, body)
    }

    async fn foreign(&self, env: &Env, queue: &QueueName, payload: Bytes) -> Result<()> {
        let answers = Self::open_here(env)?.publish(&queue.into(), vec![Message::new(payload)]).await?;
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    }

    async fn leftovers(&self, env: &Env) -> Result<Vec<String>> {
        use polyqueue::Admin;
        let left = Self::open_here(env)?.queues().await?;
        if left.is_empty() {
            self.0.lock().remove(env.namespace());
        }
        Ok(left.iter().map(|spec| format!("queue {}", spec.name)).collect())
    }
}
