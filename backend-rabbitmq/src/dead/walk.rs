//! A walk over many dead letters, which the next call takes up where the last one left it.
//!
//! A queue of the broker can be read from its head only. So whoever goes through many letters page by page, and redrives or discards
//! what each page shows, does it on one channel that reads each letter once; those that he leaves lie there unacknowledged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::backend::background;
use polyqueue::{Cursor, DeadId, QueueName, Result};
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::connection::browser::Browser;
use crate::wire::browsed::BrowsedLetter;

/// A walk over fewer letters is not kept: to begin it anew costs little, and nobody else sees its letters meanwhile.
const MANY: u64 = 2_000;
/// How long a walk is kept for the next call.
const KEPT: Duration = Duration::from_secs(1);

/// A walk over the letters that were there when it began.
pub(crate) struct Walk {
    pub(crate) browser: Browser,
    /// How many letters it reads: those that die meanwhile lie behind them.
    until: u64,
    /// When the listing began, in Unix milliseconds by this client's clock.
    pub(crate) began_ms: i64,
    /// Where it stands.
    pub(crate) at: Option<Cursor>,
    /// What the last page showed, as far as it was not moved since.
    pub(crate) shown: HashMap<DeadId, BrowsedLetter>,
}

impl Walk {
    pub(crate) fn new(browser: Browser, began_ms: i64) -> Self {
        Self { until: browser.letters(), browser, began_ms, at: None, shown: HashMap::new() }
    }

    /// Goes on with a listing that began then, and ends after so many more letters.
    pub(crate) fn go_on(&mut self, began_ms: i64, letters: u64) {
        self.began_ms = began_ms;
        self.until = self.until.min(self.browser.read() + letters);
    }

    /// How many letters lie in front of the next.
    pub(crate) fn before(&self) -> u64 {
        self.browser.passed()
    }

    /// How many letters it has still to read.
    pub(crate) fn behind(&self) -> u64 {
        self.until.saturating_sub(self.browser.read())
    }

    /// The next letter, of those that were there when it began.
    pub(crate) async fn next(&mut self, queue: &QueueName) -> Result<Option<BrowsedLetter>> {
        if self.is_over() { Ok(None) } else { self.browser.read_next(queue).await }
    }

    /// Whether it has read all that were there when it began.
    pub(crate) fn is_over(&self) -> bool {
        self.behind() == 0
    }

    fn shows(&self, ids: &[DeadId]) -> bool {
        ids.iter().all(|id| self.shown.contains_key(id))
    }

    /// Whether the next call can take it up, and would find it hard to begin anew.
    fn is_worth_keeping(&self) -> bool {
        self.browser.letters() >= MANY && (self.at.is_some() || !self.shown.is_empty())
    }
}

/// The walks of one handle that wait for their next call, at most one for each queue.
#[derive(Clone, Default)]
pub(crate) struct Walks(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    walks: HashMap<QueueName, (u64, Walk)>,
    /// Numbers what is kept.
    nth: u64,
}

impl Walks {
    /// The walk that stands there. Any other over this queue ends, for only one can have its letters.
    pub(crate) async fn at(&self, queue: &QueueName, place: Option<&Cursor>) -> Option<Walk> {
        self.take(queue, |walk| place.is_some() && walk.at.as_ref() == place).await
    }

    /// The walk whose last page showed all of these. Any other over this queue ends.
    pub(crate) async fn showing(&self, queue: &QueueName, ids: &[DeadId]) -> Option<Walk> {
        self.take(queue, |walk| walk.shows(ids)).await
    }

    /// Ends what goes over this queue.
    pub(crate) async fn end(&self, queue: &QueueName) {
        self.take(queue, |_| false).await;
    }

    /// How many letters the walk over this queue has in hand: no count of the broker knows of them.
    pub(crate) async fn in_hand(&self, queue: &QueueName) -> Result<u64> {
        match self.0.lock().await.walks.get_mut(queue) {
            Some((_, walk)) if walk.browser.is_fit() => walk.browser.in_hand().await,
            _ => Ok(0),
        }
    }

    async fn take(&self, queue: &QueueName, wanted: impl FnOnce(&Walk) -> bool) -> Option<Walk> {
        let (_, walk) = self.0.lock().await.walks.remove(queue)?;
        if walk.browser.is_fit() && wanted(&walk) {
            return Some(walk);
        }
        walk.browser.end().await;
        None
    }

    /// Keeps a walk for its next call, where that is worth it; it ends when none comes.
    pub(crate) async fn keep(&self, queue: &QueueName, walk: Walk) {
        if !walk.is_worth_keeping() {
            return walk.browser.end().await;
        }
        let mut kept = self.0.lock().await;
        kept.nth += 1;
        let nth = kept.nth;
        let former = kept.walks.insert(queue.clone(), (nth, walk));
        drop(kept);
        if let Some((_, former)) = former {
            former.browser.end().await;
        }
        let (walks, queue) = (Arc::downgrade(&self.0), queue.clone());
        background().spawn(async move {
            sleep(KEPT).await;
            let Some(walks) = walks.upgrade() else { return };
            let mut kept = walks.lock().await;
            if kept.walks.get(&queue).is_some_and(|(kept, _)| *kept == nth)
                && let Some((_, walk)) = kept.walks.remove(&queue)
            {
                drop(kept);
                walk.browser.end().await;
            }
        });
    }
}
