//! The Redis backend under test, on whatever server.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Certainty, ConnectOptions, Error, Queue, QueueName, Result};
use polyqueue_conformance::{Bytes, Footprint, Garbage, Harness, Namespace, Stage, async_trait};

pub(crate) struct Redis(Stage);

impl Redis {
    /// On the broker of this stage.
    pub(crate) fn on(stage: Stage) -> Self {
        Self(stage)
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T> {
        let client = redis::Client::open(self.0.url().await?).map_err(failed)?;
        let mut connection = client.get_multiplexed_async_connection().await.map_err(failed)?;
        command.query_async(&mut connection).await.map_err(failed)
    }

    /// Adds an entry to the lane of priority 5, as any client may.
    async fn add(&self, namespace: &Namespace, queue: &QueueName, fields: &[(&str, &[u8])]) -> Result<()> {
        let mut command = redis::cmd("XADD");
        command.arg(format!("{}:s:5", prefix(namespace, queue))).arg("*");
        for (name, value) in fields {
            command.arg(name).arg(value);
        }
        self.ask::<String>(&command).await.map(drop)
    }
}

/// What the keys of a queue begin with: docs/wire-format.md of the backend.
fn prefix(namespace: &Namespace, queue: &QueueName) -> String {
    let escaped =
        queue.as_str().replace('%', "%25").replace('{', "%7B").replace('}', "%7D").replace(':', "%3A");
    format!("{}:{{{escaped}}}", namespace.name())
}

fn failed(error: redis::RedisError) -> Error {
    Error::backend("redis", Certainty::Unknown, error)
}

/// Fields that cannot hold just any text.
const FIELDS: [&str; 6] = ["v", "x", "n", "t", "h", "a"];

#[async_trait]
impl Harness for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn open(&self, _: &Namespace, options: ConnectOptions) -> Result<Arc<dyn Queue>> {
        self.0.connect(&polyqueue_redis::PROVIDER, options).await
    }

    fn stage(&self) -> Option<&Stage> {
        Some(&self.0)
    }

    fn tick(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn lateness(&self) -> Duration {
        Duration::from_millis(50)
    }

    async fn garbage(&self, namespace: &Namespace, queue: &QueueName, raw: Garbage) -> Result<()> {
        match raw {
            Garbage::BrokenField { body, field, value } => {
                let field = FIELDS[field % FIELDS.len()];
                self.add(namespace, queue, &[("data", &body), (field, value.as_bytes())]).await
            }
            Garbage::FutureVersion { body } => {
                self.add(namespace, queue, &[("v", b"2"), ("data", &body)]).await
            }
            _ => self.add(namespace, queue, &[("nobody", b"")]).await,
        }
    }

    async fn foreign(&self, namespace: &Namespace, queue: &QueueName, payload: Bytes) -> Result<()> {
        self.add(namespace, queue, &[("data", &payload)]).await
    }

    async fn leftovers(&self, namespace: &Namespace) -> Result<Vec<String>> {
        let ours = format!("{}:*", namespace.name());
        let keys: Vec<String> = self.ask(redis::cmd("KEYS").arg(&ours)).await?;
        let channels: Vec<String> = self.ask(redis::cmd("PUBSUB").arg("CHANNELS").arg(&ours)).await?;
        let shown = |what: &'static str| move |name: String| format!("{what} {name}");
        Ok(keys.into_iter().map(shown("key")).chain(channels.into_iter().map(shown("channel"))).collect())
    }

    async fn footprint(&self, namespace: &Namespace) -> Result<Option<Footprint>> {
        let ours = format!("{}:*", namespace.name());
        let keys: Vec<String> = self.ask(redis::cmd("KEYS").arg(&ours)).await?;
        let mut bytes = 0;
        for key in &keys {
            let usage = self.ask(redis::cmd("MEMORY").arg("USAGE").arg(key).arg("SAMPLES").arg(0)).await?;
            bytes += Option::<u64>::unwrap_or_default(usage);
        }
        Ok(Some(Footprint { keys: keys.len() as u64, bytes }))
    }
}
