//! Dead letters that are made ready again, or removed.

use crate::connection::browser::Browser;
use crate::connection::request::{Confirm, PublishRequest};
use crate::dead::retention::retain;
use crate::dead::state::DeadLetters;
use crate::dead::state::browse;
use crate::dead::walk::Walk;
use crate::publish::dedup::release_keys_of;
use crate::topology::lookup::entry;
use crate::topology::records::CatalogueEntry;
use crate::wire::browsed::{BrowsedLetter, Tag};
use crate::wire::republish;
use polyqueue::{DeadId, Error, Message, QueueName, Result};
use std::sync::Arc;

/// So many letters are moved together, where there are so many.
const TOGETHER: usize = 100;

/// Makes letters ready again, in the order in which they were named: published, confirmed, removed; one after the other, or, where
/// they are many, a hundred after the other. Whoever dies on the way leaves at most those in both places.
pub(crate) async fn redrive(dead: &Arc<DeadLetters>, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
    let entry = entry(&dead.publishing.topology, queue).await?;
    let (mut walk, answers, found) = find(dead, &entry, ids).await?;
    let together = if found.len() < TOGETHER { 1 } else { TOGETHER };
    let mut found = found.into_iter().peekable();
    while found.peek().is_some() {
        let some = found.by_ref().take(together).collect();
        make_ready(dead, &entry, &mut walk.browser, some).await?;
    }
    dead.walks.keep(queue, walk).await;
    Ok(answers)
}

/// Removes letters for good.
pub(crate) async fn discard(dead: &Arc<DeadLetters>, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
    let entry = entry(&dead.publishing.topology, queue).await?;
    let (mut walk, answers, found) = find(dead, &entry, ids).await?;
    let tags: Vec<Tag> = found.iter().map(|found| found.tag).collect();
    walk.browser.remove(&tags).await?;
    dead.walks.keep(queue, walk).await;
    let unnoticed: Vec<Message> = found.iter().filter_map(BrowsedLetter::unnoticed).collect();
    release_keys_of(&dead.publishing, &entry, &unnoticed).await;
    Ok(answers)
}

/// Those of these letters that are there, in this order, and for each whether it is.
async fn find(
    dead: &Arc<DeadLetters>,
    entry: &CatalogueEntry,
    ids: &[DeadId],
) -> Result<(Walk, Vec<bool>, Vec<BrowsedLetter>)> {
    let queue = entry.name();
    let walk = match dead.walks.showing(queue, ids).await {
        Some(walk) => Some(walk),
        None => {
            retain(dead, entry).await?;
            None
        }
    };
    let mut walk = match walk {
        Some(walk) => walk,
        None => {
            let now = dead.publishing.topology.handle.now();
            let mut walk = Walk::new(browse(dead, queue).await?, now.timestamp_millis());
            walk.shown = walk.browser.find(queue, ids).await?;
            walk
        }
    };
    let found: Vec<Option<BrowsedLetter>> = ids.iter().map(|id| walk.shown.remove(id)).collect();
    let answers = found.iter().map(Option::is_some).collect();
    Ok((walk, answers, found.into_iter().flatten().collect()))
}

/// Publishes them, and removes those that were confirmed.
async fn make_ready(
    dead: &Arc<DeadLetters>,
    entry: &CatalogueEntry,
    browser: &mut Browser,
    letters: Vec<BrowsedLetter>,
) -> Result<()> {
    let handle = &dead.publishing.topology.handle;
    let unnoticed: Vec<Message> = letters.iter().filter_map(BrowsedLetter::unnoticed).collect();
    release_keys_of(&dead.publishing, entry, &unnoticed).await;
    let tags: Vec<Tag> = letters.iter().map(|letter| letter.tag).collect();
    let ready = dead.publishing.topology.names.ready(entry.name());
    let requests = letters.into_iter().map(|letter| {
        let BrowsedLetter { letter, lives, raw, .. } = letter;
        let ttl = letter.message().and_then(Message::ttl);
        PublishRequest {
            exchange: String::new(),
            key: ready.clone(),
            properties: republish::redriven(&raw, lives, letter.attempts, ttl, handle.now()),
            body: raw.body,
        }
    });
    let (mut stored, mut failed) = (Vec::with_capacity(tags.len()), None);
    for (answer, tag) in handle.send(requests, handle.until()).await?.into_iter().zip(tags) {
        match answer {
            Ok(Confirm::Stored) => stored.push(tag),
            Ok(Confirm::Unroutable) => failed = Some(Error::not_found(entry.name().clone())),
            Err(error) => failed = Some(error),
        }
    }
    browser.remove(&stored).await?;
    failed.map_or(Ok(()), Err)
}
