//! How the simulated broker is, for every client alike.

use parking_lot::Mutex;
use tokio::sync::Notify;

/// How the broker is at the moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Condition {
    pub(crate) up: bool,
    pub(crate) paused: bool,
    pub(crate) alarm: bool,
    pub(crate) out_of_memory: bool,
    pub(crate) read_only: bool,
    /// How often it ended all connections; one lives within one such time.
    pub(crate) epoch: u64,
    /// How often it lost everything.
    pub(crate) wipes: u64,
}

impl Condition {
    pub(crate) const WELL: Self = Self {
        up: true,
        paused: false,
        alarm: false,
        out_of_memory: false,
        read_only: false,
        epoch: 0,
        wipes: 0,
    };

    /// Why it takes no messages.
    pub(crate) fn blocks(&self) -> Option<&'static str> {
        [
            (self.alarm, "the broker blocks whoever publishes"),
            (self.read_only, "the broker blocks publishes: it is read only"),
            (self.out_of_memory, "the broker blocks publishes: it is out of memory"),
        ]
        .into_iter()
        .find_map(|(is_so, why)| is_so.then_some(why))
    }

    pub(crate) fn is_well(&self) -> bool {
        self.up && !self.paused && !self.alarm && !self.out_of_memory && !self.read_only
    }
}

/// The broker's condition, and who waits for it or a line to change.
#[derive(Debug)]
pub(crate) struct World {
    condition: Mutex<Condition>,
    /// Wakes in the order of those who wait, hence always in the same.
    changed: Notify,
}

impl Default for World {
    fn default() -> Self {
        Self { condition: Mutex::new(Condition::WELL), changed: Notify::new() }
    }
}

impl World {
    pub(crate) fn now(&self) -> Condition {
        *self.condition.lock()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Condition)) {
        change(&mut self.condition.lock());
        self.announce();
    }

    /// Something changed that somebody may wait for.
    pub(crate) fn announce(&self) {
        self.changed.notify_waiters();
    }

    /// Waits until a look brings something; looks at each change.
    pub(crate) async fn until<T>(&self, mut look: impl FnMut(&Condition) -> Option<T> + Send) -> T {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(seen) = look(&self.now()) {
                return seen;
            }
            changed.await;
        }
    }
}
