//! A store for dedup keys, as an application would give one to a broker that needs it.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{DedupKey, DedupStore, MessageId, Result, async_trait};
use tokio::time::Instant;

/// Keeps keys in this process: for tests, and for an application that is the only one to publish.
#[derive(Debug, Default)]
pub struct KeysInMemory(Mutex<HashMap<DedupKey, (MessageId, Instant)>>);

#[async_trait]
impl DedupStore for KeysInMemory {
    async fn claim(&self, key: &DedupKey, id: &MessageId, window: Duration) -> Result<Option<MessageId>> {
        let (now, mut keys) = (Instant::now(), self.0.lock());
        match keys.get(key) {
            Some((owner, end)) if *end > now => Ok(Some(owner.clone())),
            _ => {
                keys.insert(key.clone(), (id.clone(), now + window));
                Ok(None)
            }
        }
    }

    async fn release(&self, key: &DedupKey, id: &MessageId) -> Result<()> {
        let mut keys = self.0.lock();
        if keys.get(key).is_some_and(|(owner, _)| owner == id) {
            keys.remove(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use polyqueue::QueueName;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_has_one_owner_until_its_window_ends_or_it_is_freed() {
        let store = KeysInMemory::default();
        let (queue, minute) = (QueueName::from_static("q"), Duration::from_secs(60));
        let key = DedupKey { namespace: "n".into(), queue, key: "k".into() };
        let [a, b] = ["a", "b"].map(|id| MessageId::new(id).unwrap());
        assert_eq!(store.claim(&key, &a, minute).await.unwrap(), None);
        assert_eq!(store.claim(&key, &b, minute).await.unwrap(), Some(a.clone()));
        store.release(&key, &b).await.unwrap();
        assert_eq!(store.claim(&key, &b, minute).await.unwrap(), Some(a.clone()));
        tokio::time::advance(minute).await;
        assert_eq!(store.claim(&key, &b, minute).await.unwrap(), None);
        store.release(&key, &b).await.unwrap();
        assert_eq!(store.claim(&key, &a, minute).await.unwrap(), None);
    }
}
