//! A consumer, as its queue knows it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::Subscription;

use super::ids::WaiterId;

/// A consumer, as its queue knows it.
#[derive(Debug)]
pub(super) struct ConsumerState {
    pub(super) name: Arc<str>,
    pub(super) lease: Duration,
    pub(super) max_attempts: NonZeroU32,
    pub(super) prefetch: usize,
    pub(super) held: usize,
    pub(super) waiters: Vec<WaiterId>,
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
            waiters: Vec::new(),
            closed: false,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        if self.prefetch == 0 { usize::MAX } else { self.prefetch.saturating_sub(self.held) }
    }
}
