//! Messages with dedup keys, and clients with and without a store for them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use polyqueue::{Dedup, DedupStore, Message, MessageId, Published, Queue, QueueName, QueueSpec};

use crate::dedup_store::KeysInMemory;
use crate::verbs::{publish_any, publish_one};
use crate::{Env, Fail, Outcome, ensure_eq};

/// Opens clients, all with the same store or all with none.
#[derive(Clone)]
pub(super) struct Clients {
    pub(super) env: Env,
    store: Option<Arc<dyn DedupStore>>,
}

/// The body of a case.
pub(super) type Body = fn(Clients) -> BoxFuture<'static, Outcome>;

/// With the broker's own memory.
pub(super) async fn own(env: Env, body: Body) -> Outcome {
    body(Clients::plain(env)).await
}

/// With a store of the application.
pub(super) async fn given(env: Env, body: Body) -> Outcome {
    body(Clients { env, store: Some(Arc::new(KeysInMemory::default())) }).await
}

impl Clients {
    /// With the broker's own memory.
    pub(super) fn plain(env: Env) -> Self {
        Self { env, store: None }
    }

    pub(super) async fn open(&self) -> Result<Arc<dyn Queue>, Fail> {
        let store = self.store.clone();
        self.env.open_with(|options| store.into_iter().fold(options, |all, one| all.dedup_store(one))).await
    }

    pub(super) async fn declared(
        &self,
        name: &str,
        dedup: Dedup,
    ) -> Result<(Arc<dyn Queue>, QueueName), Fail> {
        self.declared_as(QueueSpec::new(self.env.queue_name(name)).dedup(dedup)).await
    }

    pub(super) async fn declared_as(&self, spec: QueueSpec) -> Result<(Arc<dyn Queue>, QueueName), Fail> {
        let queue = self.open().await?;
        queue.declare(&spec).await?;
        Ok((queue, spec.name))
    }
}

/// Far longer than any case.
pub(super) const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn keyed(key: &str) -> Message {
    Message::new(key.to_owned()).with_dedup_key(key)
}

/// Publishes a message that must be stored: its key is free.
pub(super) async fn stored(
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    message: Message,
) -> Result<MessageId, Fail> {
    publish_one(queue, name, message).await
}

/// Publishes a message that must not be stored: `first` has its key.
pub(super) async fn duplicate(
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    key: &str,
    first: &MessageId,
) -> Outcome {
    let message = keyed(key);
    let expected = Published::duplicate(message.id().clone(), first.clone());
    ensure_eq!(publish_any(queue, name, message).await??, expected, "the answer to a duplicate");
    Ok(())
}
