//! The queues that a handle publishes to: found without a lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use polyqueue::QueueName;

use crate::broker::queue_ref::QueueRef;

/// Most clients publish to few queues. Others are looked for where all are.
const MOST: usize = 16;

/// The first queues that were published to.
#[derive(Debug, Default)]
pub(crate) struct RecentQueues([OnceLock<Recent>; MOST]);

#[derive(Debug)]
struct Recent {
    queue_ref: QueueRef,
    is_gone: AtomicBool,
}

impl RecentQueues {
    /// A queue of this name; it may have been deleted.
    pub(crate) fn get(&self, queue: &QueueName) -> Option<&QueueRef> {
        let mut known = self.0.iter().map_while(OnceLock::get);
        let is_it = |it: &&Recent| it.queue_ref.terms().name == *queue && !it.is_gone.load(Relaxed);
        known.find(is_it).map(|it| &it.queue_ref)
    }

    /// Remembers it, where there is a place.
    pub(crate) fn keep(&self, queue_ref: QueueRef) {
        let mut recent = Recent { queue_ref, is_gone: AtomicBool::new(false) };
        for place in &self.0 {
            match place.set(recent) {
                Ok(()) => return,
                Err(taken) => recent = taken,
            }
        }
    }

    /// It was deleted.
    pub(crate) fn forget(&self, queue_ref: &QueueRef) {
        let known = self.0.iter().map_while(OnceLock::get);
        known.filter(|it| it.queue_ref.is(queue_ref)).for_each(|it| it.is_gone.store(true, Relaxed));
    }
}
