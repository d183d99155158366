//! Emptying a queue: by the broker in one go, or message by message where each has a key to be freed.

use crate::dead::state::DeadLetters;
use crate::publish::dedup::release_keys_of;
use crate::publish::state::Publishing;
use crate::topology::lookup::{count, entry};
use polyqueue::{Error, Message, Purge, QueueName, Result};
use std::sync::Arc;

use crate::connection::fault::if_there;
use crate::topology::records::CatalogueEntry;
use crate::wire::decode::decode;
use crate::wire::properties::Raw;

/// How many messages are taken up at once.
const AT_ONCE: usize = 256;

/// Empties one of a queue's two sides.
pub(crate) async fn purge(dead: &Arc<DeadLetters>, queue: &QueueName, what: Purge) -> Result<u64> {
    let publishing = &dead.publishing;
    dead.walks.end(queue).await;
    let object = match what {
        Purge::Waiting => publishing.topology.names.ready(queue),
        Purge::Dead => publishing.topology.names.dead(queue),
    };
    let entry = entry(&publishing.topology, queue).await?;
    if entry.spec.dedup.is_some() {
        return purge_by_hand(publishing, &entry, object).await;
    }
    let removed = if_there(publishing.topology.handle.control().purge(&object).await)?;
    removed.ok_or_else(|| Error::not_found(queue.clone()))
}

/// Removes what is there now, message by message, and frees their keys.
async fn purge_by_hand(publishing: &Arc<Publishing>, entry: &CatalogueEntry, object: String) -> Result<u64> {
    let there = count(&publishing.topology, entry.name(), &object).await?;
    let channel = publishing.topology.handle.control().dedicated().await?;
    let mut removed = 0_u64;
    while removed < there {
        let most = AT_ONCE.min(usize::try_from(there - removed).unwrap_or(AT_ONCE));
        let taken = channel.get(&object, most).await?;
        if taken.is_empty() {
            break;
        }
        let tags: Vec<u64> = taken.iter().map(|message| message.delivery_tag).collect();
        channel.remove(&object, &tags).await?;
        removed += taken.len() as u64;
        let raws = taken.into_iter().map(|d| Raw { properties: d.properties, body: d.data.into() });
        let messages: Vec<Message> = raws.filter_map(|raw| Some(decode(&raw).ok()?.message)).collect();
        release_keys_of(publishing, entry, &messages).await;
    }
    Ok(removed)
}
