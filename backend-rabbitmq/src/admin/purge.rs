//! Emptying a queue: by the broker in one go, or message by message where each has a key to be freed.

use crate::publish::dedup::release_keys_of;
use crate::publish::state::Publishing;
use crate::topology::lookup::{count, entry};
use lapin::options::{BasicAckOptions, QueuePurgeOptions};
use polyqueue::{Error, Message, Purge, QueueName, Result};
use std::sync::Arc;

use crate::connection::fault::is_missing;
use crate::connection::queries::{fence, get};
use crate::topology::records::CatalogueEntry;
use crate::wire::decode::decode;
use crate::wire::properties::Raw;

/// How many messages are taken up at once.
const AT_ONCE: usize = 256;

/// Empties one of a queue's two sides.
pub(crate) async fn purge(publishing: &Arc<Publishing>, queue: &QueueName, what: Purge) -> Result<u64> {
    let object = match what {
        Purge::Waiting => publishing.topology.names.ready(queue),
        Purge::Dead => publishing.topology.names.dead(queue),
    };
    let entry = entry(&publishing.topology, queue).await?;
    if entry.spec.dedup.is_some() {
        return purge_by_hand(publishing, &entry, object).await;
    }
    let session = publishing.topology.handle.control().await?;
    let channel = session.channel().await?;
    match channel.queue_purge(object.into(), QueuePurgeOptions::default()).await {
        Ok(removed) => Ok(removed.into()),
        Err(error) if is_missing(&error) => Err(Error::not_found(queue.clone())),
        Err(error) => Err(session.fault(&error)),
    }
}

/// Removes what is there now, message by message, and frees their keys.
async fn purge_by_hand(publishing: &Arc<Publishing>, entry: &CatalogueEntry, object: String) -> Result<u64> {
    let there = count(&publishing.topology, entry.name(), object.clone()).await?;
    let session = publishing.topology.handle.control().await?;
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
        release_keys_of(publishing, entry, &messages).await;
    }
    Ok(removed)
}
