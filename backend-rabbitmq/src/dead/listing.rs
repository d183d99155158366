//! Dead letters, page by page.

use crate::dead::cursor::ListingCursor;
use crate::dead::retention::retain;
use crate::dead::state::DeadLetters;
use crate::dead::state::browse;
use crate::publish::dedup::release_keys_of;
use crate::topology::lookup::entry;
use crate::wire::browsed::read;
use polyqueue::{DeadFilter, DeadPage, Page, QueueName, Result};
use std::sync::Arc;

pub(crate) async fn dead_letters(
    dead: &Arc<DeadLetters>,
    queue: &QueueName,
    filter: &DeadFilter,
    page: Page,
) -> Result<DeadPage> {
    let place = page.after.as_ref().map(ListingCursor::read).transpose()?;
    let entry = entry(&dead.publishing.topology, queue).await?;
    retain(dead, &entry).await?;
    let mut unnoticed = Vec::new();
    let mut walk = browse(dead, queue).await?;
    let mut found = place.is_none();
    let (mut after, mut later) = (Vec::new(), Vec::new());
    while after.len() <= page.limit {
        let Some(delivery) = walk.next().await? else { break };
        let found_here = read(queue, delivery);
        unnoticed.extend(found_here.unnoticed());
        let letter = found_here.letter;
        match &place {
            Some(place) if !found && place.is(&letter) => found = true,
            _ if !filter.matches(&letter) => {}
            Some(place) if !found => {
                if place.is_before(&letter) && later.len() <= page.limit {
                    later.push(letter);
                }
            }
            _ => after.push(letter),
        }
    }
    walk.end().await;
    if dead.publishing.dedup.are_elsewhere() {
        release_keys_of(&dead.publishing, &entry, &unnoticed).await;
    }
    let mut letters = if found { after } else { later };
    let more = letters.len() > page.limit;
    letters.truncate(page.limit);
    let next = letters.last().filter(|_| more).map(ListingCursor::of);
    Ok(DeadPage { dead_letters: letters, next })
}
