//! Where dedup keys are remembered for a broker that cannot do so well by itself.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::named::Named;
use crate::{Error, Limits, MessageId, QueueName, Result};

/// A dedup key, with where it counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Named<Fields>")]
pub struct DedupKey {
    /// The namespace of the handle.
    pub namespace: String,
    /// The queue.
    pub queue: QueueName,
    /// What the message carries.
    pub key: String,
}

/// A key as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    namespace: String,
    queue: QueueName,
    key: String,
}

impl TryFrom<Named<Fields>> for DedupKey {
    type Error = Error;

    fn try_from(Named(Fields { namespace, queue, key }): Named<Fields>) -> Result<Self> {
        let limits = Limits::default();
        limits.check_namespace(&namespace)?;
        limits.check_dedup_key(&key)?;
        Ok(Self { namespace, queue, key })
    }
}

/// Remembers dedup keys for a broker that cannot do so well by itself, given with
/// [`ConnectOptions::dedup_store`](crate::ConnectOptions::dedup_store). What it promises, deduplication promises: keys
/// survive a restart when it does.
#[async_trait]
pub trait DedupStore: fmt::Debug + Send + Sync + 'static {
    /// Gives `key` to `id` for `window`, unless somebody has it: then answers whose it is. Atomic.
    async fn claim(&self, key: &DedupKey, id: &MessageId, window: Duration) -> Result<Option<MessageId>>;

    /// Frees `key` when `id` has it.
    async fn release(&self, key: &DedupKey, id: &MessageId) -> Result<()>;
}
