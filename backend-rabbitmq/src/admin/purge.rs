//! Emptying a queue: by the broker in one go, or message by message where each has a key to be freed.

use lapin::options::{BasicAckOptions, QueuePurgeOptions};
use polyqueue::{Error, Message, Purge, QueueName, Result};

use crate::connection::fault::is_missing;
use crate::connection::handle::Core;
use crate::connection::queries::{fence, get};
use crate::topology::records::CatalogueEntry;
use crate::wire::decode::decode;
use crate::wire::properties::Raw;

/// How many messages are taken up at once.
const AT_ONCE: usize = 256;

impl Core {
    /// Empties one of a queue's two sides.
    pub(crate) async fn purge(&self, queue: &QueueName, what: Purge) -> Result<u64> {
        let object = match what {
            Purge::Waiting => self.names.ready(queue),
            Purge::Dead => self.names.dead(queue),
        };
        let entry = self.entry(queue).await?;
        if entry.spec.dedup.is_some() {
            return self.purge_by_hand(&entry, object).await;
        }
        let session = self.control().await?;
        let channel = session.channel().await?;
        match channel.queue_purge(object.into(), QueuePurgeOptions::default()).await {
            Ok(removed) => Ok(removed.into()),
            Err(error) if is_missing(&error) => Err(Error::not_found(queue.clone())),
            Err(error) => Err(session.fault(&error)),
        }
    }

    /// Removes what is there now, message by message, and frees their keys.
    async fn purge_by_hand(&self, entry: &CatalogueEntry, object: String) -> Result<u64> {
        let there = self.count(entry.name(), object.clone()).await?;
        let session = self.control().await?;
        let channel = session.channel().await?;
        let mut removed = 0_u64;
        while removed < there {
            let most = AT_ONCE.min(usize::try_from(there - removed).unwrap_or(AT_ONCE));
            let taken = async {
                let (got, _) = get(channel.clone(), object.clone(), most).await?;
                if let Some(last) = got.last() {
                    channel.basic_ack(last.delivery_tag, BasicAckOptions { multiple: true }).await?;
                    fence(channel.clone(), object.clone()).await?;
                }
                Ok(got)
            };
            let taken = taken.await.map_err(|e: lapin::Error| session.fault(&e))?;
            if taken.is_empty() {
                break;
            }
            removed += taken.len() as u64;
            let raws = taken.into_iter().map(|d| Raw { properties: d.properties, body: d.data.into() });
            let messages: Vec<Message> = raws.filter_map(|raw| Some(decode(&raw).ok()?.message)).collect();
            self.release_keys_of(entry, &messages).await;
        }
        Ok(removed)
    }
}
