//! Dead letters, page by page.

use crate::dead::cursor::ListingCursor;
use crate::dead::retention::retain;
use crate::dead::state::DeadLetters;
use crate::dead::state::browse;
use crate::dead::walk::Walk;
use crate::publish::dedup::release_keys_of;
use crate::topology::lookup::entry;
use crate::wire::browsed::BrowsedLetter;
use polyqueue::{Cursor, DeadFilter, DeadPage, Message, Page, QueueName, Result};
use std::sync::Arc;
use tokio::time::Instant;

/// The letters that match, of those that were there when the listing began: no more than `page.limit`, and none when enough time has
/// passed.
pub(crate) async fn dead_letters(
    dead: &Arc<DeadLetters>,
    queue: &QueueName,
    filter: &DeadFilter,
    page: Page,
) -> Result<DeadPage> {
    let place = page.after.as_ref().map(ListingCursor::read).transpose()?;
    let entry = entry(&dead.publishing.topology, queue).await?;
    let (mut listing, mut next) = (Listing::new(queue, filter, page.limit), page.after.clone());
    let mut walk = match dead.walks.at(queue, page.after.as_ref()).await {
        Some(walk) => walk,
        None => {
            retain(dead, &entry).await?;
            let now = dead.publishing.topology.handle.now();
            Walk::new(browse(dead, queue).await?, now.timestamp_millis())
        }
    };
    let is_there = match place.filter(|_| walk.at.is_none()) {
        Some(place) => listing.go_to(&mut walk, &place, &mut next).await?,
        None => true,
    };
    if is_there {
        // What was waited for until now takes nothing from the time to read.
        let enough = Instant::now() + dead.publishing.topology.handle.deadline / 4;
        while listing.letters.len() < page.limit && Instant::now() < enough {
            let Some(found) = walk.next(queue).await? else { break };
            next = Some(ListingCursor::of(&found.letter, walk.before(), walk.behind(), walk.began_ms));
            listing.take(found);
        }
        next = next.filter(|_| !walk.is_over());
        walk.at.clone_from(&next);
    }
    if dead.publishing.dedup.are_elsewhere() {
        release_keys_of(&dead.publishing, &entry, &listing.unnoticed).await;
    }
    let dead_letters = listing.letters.iter().map(|found| found.letter.clone()).collect();
    walk.shown = listing.letters.into_iter().map(|found| (found.letter.id.clone(), found)).collect();
    dead.walks.keep(queue, walk).await;
    Ok(DeadPage { dead_letters, next })
}

/// One page on its way.
struct Listing<'a> {
    queue: &'a QueueName,
    filter: &'a DeadFilter,
    limit: usize,
    letters: Vec<BrowsedLetter>,
    unnoticed: Vec<Message>,
}

impl<'a> Listing<'a> {
    fn new(queue: &'a QueueName, filter: &'a DeadFilter, limit: usize) -> Self {
        Self { queue, filter, limit, letters: Vec::new(), unnoticed: Vec::new() }
    }

    fn take(&mut self, found: BrowsedLetter) {
        self.unnoticed.extend(found.unnoticed());
        if self.filter.matches(&found.letter) {
            self.letters.push(found);
        }
    }

    /// Passes over all up to this place. Answers whether its letter is there; should it be gone, takes those that died later, and says
    /// where to go `on`.
    ///
    /// # Errors
    /// `Unsupported` when it lies too far behind others.
    async fn go_to(
        &mut self,
        walk: &mut Walk,
        place: &ListingCursor,
        on: &mut Option<Cursor>,
    ) -> Result<bool> {
        walk.browser.check_far(place.before)?;
        let (mut later, mut looked_at) = (0_u64, 0);
        while let Some(found) = walk.next(self.queue).await? {
            walk.browser.check_farthest()?;
            if place.is(walk.before() - 1, &found.letter) {
                self.letters.clear();
                walk.go_on(place.began_ms, place.behind);
                return Ok(true);
            }
            if place.is_before(walk.before() - 1, &found.letter) {
                later += 1;
                if self.letters.len() < self.limit {
                    looked_at = later;
                    // What lies farther behind than any letter did when the listing began has died since.
                    let all = place.before + place.behind;
                    let behind = walk.behind().min(all.saturating_sub(walk.before()));
                    *on = Some(ListingCursor::of(&found.letter, walk.before(), behind, place.began_ms));
                    self.take(found);
                }
            }
        }
        on.take_if(|_| looked_at == later);
        Ok(false)
    }
}
