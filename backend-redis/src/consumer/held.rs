//! What a consumer holds and until when: bounded by its prefetch, and what was extended ends later than its receipt says.

use std::collections::HashMap;

use parking_lot::Mutex;
use polyqueue::{Delivery, Receipt};
use tokio::time::Instant;

/// What a consumer holds.
pub(crate) struct Holding {
    /// The most messages that it may hold; 0: as many as it asks for, which need not be counted.
    bound: usize,
    counted: Mutex<HashMap<Receipt, Instant>>,
    extended: Mutex<Extended>,
}

#[derive(Default)]
struct Extended {
    ends: HashMap<Receipt, Instant>,
    /// Old entries are swept when there are this many.
    sweep_at: usize,
}

impl Holding {
    pub(crate) fn new(bound: usize) -> Self {
        Self { bound, counted: Mutex::default(), extended: Mutex::default() }
    }

    /// How many more messages it may hold.
    pub(crate) fn room(&self) -> usize {
        if self.bound == 0 {
            return usize::MAX;
        }
        let now = Instant::now();
        let mut counted = self.counted.lock();
        counted.retain(|_, until| *until > now);
        self.bound.saturating_sub(counted.len())
    }

    /// When the first of them is not ours any more.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.counted.lock().values().min().copied()
    }

    pub(crate) fn add(&self, deliveries: &[Delivery]) {
        if self.bound > 0 {
            let ends = deliveries.iter().map(|delivery| (delivery.receipt.clone(), delivery.lease_until));
            self.counted.lock().extend(ends);
        }
    }

    /// Whether there is more room now.
    pub(crate) fn remove<'a>(&self, receipts: impl Iterator<Item = &'a Receipt>) -> bool {
        if self.bound == 0 {
            return false;
        }
        let mut counted = self.counted.lock();
        receipts.filter(|&receipt| counted.remove(receipt).is_some()).count() > 0
    }

    /// The end of a lease that was extended. Kept when it is settled, so that a second verdict learns that it was.
    pub(crate) fn until(&self, receipt: &Receipt) -> Option<Instant> {
        self.extended.lock().ends.get(receipt).copied()
    }

    pub(crate) fn extend(&self, receipt: &Receipt, until: Instant) {
        if let Some(end) = self.counted.lock().get_mut(receipt) {
            *end = until;
        }
        let mut extended = self.extended.lock();
        extended.ends.insert(receipt.clone(), until);
        if extended.ends.len() > extended.sweep_at {
            let now = Instant::now();
            extended.ends.retain(|_, end| *end > now);
            extended.sweep_at = 2 * extended.ends.len() + 16;
        }
    }
}
