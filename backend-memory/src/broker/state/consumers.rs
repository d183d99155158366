//! A consumer, as its queue knows it.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::Subscription;

use super::ids::WaiterId;
use super::pending::PendingReceives;

/// A consumer, as its queue knows it.
#[derive(Debug)]
pub(super) struct ConsumerState {
    pub(super) name: Arc<str>,
    pub(super) lease: Duration,
    pub(super) max_attempts: NonZeroU32,
    pub(super) prefetch: usize,
    pub(super) held: usize,
    /// Its receives that wait, the oldest first.
    pub(super) waiters: VecDeque<WaiterId>,
    /// The one of them that may be served.
    offered: Option<WaiterId>,
    pub(super) closed: bool,
}

impl ConsumerState {
    pub(super) fn new(subscription: &Subscription) -> Self {
        Self {
            name: subscription.consumer.as_str().into(),
            lease: subscription.lease,
            max_attempts: subscription.max_attempts,
            prefetch: subscription.prefetch,
            held: 0,
            waiters: VecDeque::new(),
            offered: None,
            closed: false,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        if self.prefetch == 0 { usize::MAX } else { self.prefetch.saturating_sub(self.held) }
    }

    /// Its oldest receive may be served as long as it has room.
    pub(super) fn offer_oldest(&mut self, waiting: &mut PendingReceives) {
        let oldest = self.waiters.front().copied().filter(|_| self.capacity() > 0 && !self.closed);
        let before = std::mem::replace(&mut self.offered, oldest);
        if before != oldest {
            waiting.set_open(before, oldest);
        }
    }

    pub(super) fn drop_waiter(&mut self, waiter: WaiterId) {
        if let Ok(place) = self.waiters.binary_search(&waiter) {
            self.waiters.remove(place);
        }
    }
}
