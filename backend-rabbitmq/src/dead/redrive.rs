//! Dead letters that are made ready again, or removed.

use crate::connection::request::{Confirm, PublishRequest};
use crate::dead::retention::retain;
use crate::dead::state::DeadLetters;
use crate::dead::state::browse;
use crate::publish::dedup::release_keys_of;
use crate::topology::lookup::entry;
use crate::wire::browsed::BrowsedLetter;
use crate::wire::republish;
use polyqueue::{DeadId, Error, Message, QueueName, Result};
use std::sync::Arc;

/// Makes letters ready again, in the order in which they were named, one after the other: published, confirmed, removed.
/// Whoever dies on the way leaves at most one of them in both places.
pub(crate) async fn redrive(dead: &Arc<DeadLetters>, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
    let entry = entry(&dead.publishing.topology, queue).await?;
    retain(dead, &entry).await?;
    let mut walk = browse(dead, queue).await?;
    let mut found = walk.find(queue, ids).await?;
    let mut answers = Vec::with_capacity(ids.len());
    for id in ids {
        let letter = found.remove(id);
        answers.push(letter.is_some());
        let Some(found) = letter else { continue };
        release_keys_of(&dead.publishing, &entry, found.unnoticed().as_slice()).await;
        let BrowsedLetter { tag, letter, lives, raw } = found;
        let ttl = letter.message().and_then(Message::ttl);
        let request = PublishRequest {
            exchange: String::new(),
            key: dead.publishing.topology.names.ready(queue),
            properties: republish::redriven(
                &raw,
                lives,
                letter.attempts,
                ttl,
                dead.publishing.topology.handle.now(),
            ),
            body: raw.body,
        };
        match dead.publishing.topology.handle.store(request).await? {
            Confirm::Stored => walk.remove(&[tag]).await?,
            Confirm::Unroutable => return Err(Error::not_found(queue.clone())),
        }
    }
    walk.end().await;
    Ok(answers)
}

/// Removes letters for good.
pub(crate) async fn discard(dead: &Arc<DeadLetters>, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
    let mut walk = browse(dead, queue).await?;
    let mut found = walk.find(queue, ids).await?;
    let tags: Vec<u64> = found.values().map(|found| found.tag).collect();
    walk.remove(&tags).await?;
    walk.end().await;
    let unnoticed: Vec<Message> = found.values().filter_map(BrowsedLetter::unnoticed).collect();
    release_keys_of(&dead.publishing, &entry(&dead.publishing.topology, queue).await?, &unnoticed).await;
    Ok(ids.iter().map(|id| found.remove(id).is_some()).collect())
}
