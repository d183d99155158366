//! Where a producer or a consumer writes down what it does before it does it, and what it was answered.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::Error;
use tokio::time::Instant;

use super::entry::{Entry, What};

/// Takes each entry, in order.
pub(super) type Sink = Arc<dyn Fn(Entry) + Send + Sync>;

/// A clock that began with the drill, and where entries go.
#[derive(Clone)]
pub(super) struct Journal {
    began: Instant,
    sink: Sink,
}

impl Journal {
    pub(super) fn new(began: Instant, sink: Sink) -> Self {
        Self { began, sink }
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn moment(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.began)
    }

    pub(super) fn note(&self, what: What) {
        (self.sink)(Entry { at: self.now(), what });
    }

    /// A call failed: where that does not pass by itself, it is written down.
    pub(super) fn note_unless_passing(&self, call: &str, error: &Error) {
        if !error.is_transient() {
            self.note(What::Trouble { error: format!("{call}: {error}") });
        }
    }
}
