//! How much is done under one hold of the lock: whoever has many messages to move moves some, and lets others in.

/// So many steps at most, one for each message, key, letter or waiter that is moved.
pub(crate) const MOST: usize = 1_000;

/// What has become due by itself may take half, so that the call finds the other half.
const FOR_DUE: usize = MOST / 2;

/// The last act may be begun with one step left, and take a few.
const FOR_CALL: usize = MOST - 100;

/// The steps of one hold of the lock.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    taken: usize,
    limit: usize,
    /// How many queues are held together, which share the steps.
    sharers: usize,
}

impl Steps {
    /// The lock was taken, together with those of so many queues, this one among them.
    pub(super) fn begin(&mut self, sharers: usize) {
        *self = Self { taken: 0, limit: share(FOR_DUE, sharers), sharers };
    }

    /// What is due is applied: the rest is for the call.
    pub(super) fn begin_call(&mut self) {
        self.limit = share(FOR_CALL, self.sharers);
    }

    pub(super) fn take(&mut self) {
        self.taken += 1;
    }

    pub(crate) fn are_left(&self) -> bool {
        self.taken < self.limit
    }

    pub(super) fn left(&self) -> usize {
        self.limit.saturating_sub(self.taken)
    }

    pub(super) fn taken(&self) -> usize {
        self.taken
    }
}

/// At least one, so that whoever holds very many queues gets on.
fn share(steps: usize, sharers: usize) -> usize {
    (steps / sharers.max(1)).max(1)
}
