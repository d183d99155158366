//! How long dead letters are kept: applied by whoever makes one or looks at them, for the broker would not count what it drops.

use std::time::Duration;

use chrono::TimeDelta;
use polyqueue::{Message, QueueName, Result};

use crate::connection::handle::Core;
use crate::dead::listing::{BrowsedLetter, Browser};
use crate::topology::records::CatalogueEntry;

/// How many letters are removed at once.
const AT_ONCE: usize = 256;
/// How long a death may wait for others who look at the letters.
const AFTER_DEATH: Duration = Duration::from_secs(1);

impl Core {
    /// Drops the letters that are too many or too old, the oldest first, and counts them.
    pub(crate) async fn retain(&self, entry: &CatalogueEntry) -> Result<()> {
        let kept = &entry.spec.dead;
        if kept.is_endless() {
            return Ok(());
        }
        if let (Some(most), None) = (kept.max_len, kept.max_age)
            && self.count(entry.name(), self.names.dead(entry.name())).await? <= most
        {
            return Ok(());
        }
        let mut walk = Browser::begin(self, entry.name()).await?;
        let mut surplus = kept.max_len.map_or(0, |most| walk.letters().saturating_sub(most));
        let age = kept.max_age.and_then(|age| TimeDelta::from_std(age).ok());
        let oldest = age.and_then(|age| self.now().checked_sub_signed(age));
        let mut dropped = Vec::new();
        while let Some(found) = walk.read_next(entry.name()).await? {
            if surplus == 0 && oldest.is_none_or(|oldest| found.letter.died_at > oldest) {
                break;
            }
            surplus = surplus.saturating_sub(1);
            dropped.push(found);
            if dropped.len() >= AT_ONCE {
                walk.drop_letters(self, entry, std::mem::take(&mut dropped)).await?;
            }
        }
        walk.drop_letters(self, entry, dropped).await?;
        walk.end().await;
        Ok(())
    }

    /// The same after a death. It goes on when it takes longer than a death may wait.
    pub(crate) async fn retain_after_death(&self, queue: &QueueName) {
        let entry = self.catalogue.entry(queue).filter(|entry| !entry.spec.dead.is_endless());
        let (Some(entry), Ok(core)) = (entry, self.shared()) else { return };
        let work = tokio::spawn(async move {
            let _one_at_a_time = core.pruning.lock().await;
            if let Err(error) = core.retain(&entry).await {
                tracing::debug!(name: "rabbitmq.retention_put_off", queue = %entry.name(), %error);
            }
        });
        let _ = tokio::time::timeout(AFTER_DEATH, work).await;
    }
}

impl Browser {
    async fn drop_letters(
        &self,
        core: &Core,
        entry: &CatalogueEntry,
        found: Vec<BrowsedLetter>,
    ) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let tags: Vec<u64> = found.iter().map(|found| found.tag).collect();
        self.remove(core, &tags).await?;
        core.meter.of(entry.name()).dropped(tags.len() as u64);
        tracing::info!(name: "rabbitmq.dead_letters_dropped", queue = %entry.name(), letters = tags.len());
        let unnoticed: Vec<Message> = found.iter().filter_map(BrowsedLetter::unnoticed).collect();
        core.release_keys_of(entry, &unnoticed).await;
        Ok(())
    }
}
