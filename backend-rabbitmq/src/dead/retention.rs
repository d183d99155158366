//! How long dead letters are kept: applied by whoever makes one or looks at them, for the broker would not count what it drops.

use crate::dead::state::DeadLetters;
use crate::publish::dedup::release_keys_of;
use crate::topology::lookup::count;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use polyqueue::backend::background;
use polyqueue::{Certainty, Error, Message, QueueName, Result};
use tokio::time::timeout;

use crate::connection::browser::Browser;
use crate::dead::state::browse;
use crate::topology::records::CatalogueEntry;
use crate::wire::browsed::{BrowsedLetter, Tag};

/// How many letters are removed at once.
const AT_ONCE: usize = 256;
/// How long a death may wait for others who look at the letters.
const AFTER_DEATH: Duration = Duration::from_secs(1);
/// How long it may take at all, others' looks included.
const LONGEST: Duration = Duration::from_secs(60);

/// Drops the letters that are too many or too old, the oldest first, and counts them.
pub(crate) async fn retain(dead: &Arc<DeadLetters>, entry: &CatalogueEntry) -> Result<()> {
    let kept = &entry.spec.dead;
    if kept.is_endless() {
        return Ok(());
    }
    if let (Some(most), None) = (kept.max_len, kept.max_age)
        && count(&dead.publishing.topology, entry.name(), &dead.publishing.topology.names.dead(entry.name()))
            .await?
            <= most
    {
        return Ok(());
    }
    let mut walk = browse(dead, entry.name()).await?;
    let mut surplus = kept.max_len.map_or(0, |most| walk.letters().saturating_sub(most));
    let age = kept.max_age.and_then(|age| TimeDelta::from_std(age).ok());
    let oldest = age.and_then(|age| dead.publishing.topology.handle.now().checked_sub_signed(age));
    let mut dropped = Vec::new();
    while let Some(found) = walk.read_next(entry.name()).await? {
        if surplus == 0 && oldest.is_none_or(|oldest| found.letter.died_at > oldest) {
            break;
        }
        surplus = surplus.saturating_sub(1);
        dropped.push(found);
        if dropped.len() >= AT_ONCE {
            drop_letters(&mut walk, dead, entry, std::mem::take(&mut dropped)).await?;
        }
    }
    drop_letters(&mut walk, dead, entry, dropped).await?;
    walk.end().await;
    Ok(())
}

/// The same after a death. It goes on when it takes longer than a death may wait; those that come meanwhile do not wait for it.
pub(crate) async fn retain_after_death(dead: &Arc<DeadLetters>, queue: &QueueName) {
    let listed = dead.publishing.topology.catalogue.entry(queue);
    let Some(entry) = listed.filter(|entry| !entry.spec.dead.is_endless()) else { return };
    if !dead.begins_to_prune(queue) {
        return;
    }
    let dead = dead.clone();
    let work = background().spawn(async move {
        loop {
            prune(&dead, &entry).await;
            if !dead.prunes_again(entry.name()) {
                break;
            }
        }
    });
    let _ = timeout(AFTER_DEATH, work).await;
}

async fn prune(dead: &Arc<DeadLetters>, entry: &CatalogueEntry) {
    let pruned = async {
        let _one_at_a_time = dead.pruning.lock().await;
        retain(dead, entry).await
    };
    let late = |_| Err(Error::timeout("retention", LONGEST, Certainty::Unknown));
    if let Err(error) = timeout(LONGEST, pruned).await.unwrap_or_else(late) {
        tracing::debug!(name: "rabbitmq.retention_put_off", queue = %entry.name(), %error, "dead letters could not be looked through for what is too old: later");
    }
}

async fn drop_letters(
    browser: &mut Browser,
    dead: &Arc<DeadLetters>,
    entry: &CatalogueEntry,
    found: Vec<BrowsedLetter>,
) -> Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let tags: Vec<Tag> = found.iter().map(|found| found.tag).collect();
    browser.remove(&tags).await?;
    dead.publishing.topology.handle.meter.of(entry.name()).dropped(tags.len() as u64);
    tracing::info!(name: "rabbitmq.dead_letters_dropped", queue = %entry.name(), letters = tags.len(), "dropped dead letters that were too many or too old");
    let unnoticed: Vec<Message> = found.iter().filter_map(BrowsedLetter::unnoticed).collect();
    release_keys_of(&dead.publishing, entry, &unnoticed).await;
    Ok(())
}
