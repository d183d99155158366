//! What those who delay and who moves know together.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::delay::clock::BrokerClock;

/// How long a message counts as stranded after it was met: somewhat longer than until it is met again.
const STRANDED: Duration = Duration::from_secs(75);
/// How many of them are counted.
const COUNTED: usize = 10_000;

/// What this client does for what is delayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// It has no connection for it, or does not know the time yet.
    #[default]
    Beginning,
    /// Another one moves what is due.
    StandingBy,
    /// It moves what is due.
    Moving,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Beginning => "this client is about to stand by",
            Self::StandingBy => "this client stands by",
            Self::Moving => "it is this client's turn",
        })
    }
}

/// What one client knows.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) clock: BrokerClock,
    /// Somebody delays: what is due is to be moved.
    is_used: watch::Sender<bool>,
    /// Since when something was due and not moved, whenever it was looked.
    pub(crate) overdue: Mutex<Option<Instant>>,
    role: Mutex<Role>,
    /// By namespace and message, when it was met last for which nobody knows a queue.
    stranded: Mutex<HashMap<(String, String), Instant>>,
    /// One call at a time makes a slot; when each was made last.
    pub(crate) made: tokio::sync::Mutex<HashMap<String, tokio::time::Instant>>,
}

impl Shared {
    /// Somebody delays.
    pub(crate) fn use_it(&self) {
        self.is_used.send_replace(true);
    }

    /// Whether anybody does.
    pub(crate) fn is_used(&self) -> bool {
        *self.is_used.borrow()
    }

    /// Waits until somebody does.
    pub(crate) async fn used(&self) {
        // The sender lives as long as this does.
        let _ = self.is_used.subscribe().wait_for(|used| *used).await;
    }

    /// What it does now.
    pub(crate) fn role(&self) -> Role {
        *self.role.lock()
    }

    pub(crate) fn set_role(&self, role: Role) {
        *self.role.lock() = role;
    }

    /// Nobody knows the queue of this message.
    pub(crate) fn strand(&self, namespace: &str, id: &str) {
        let mut stranded = self.stranded.lock();
        let met = Instant::now();
        stranded.retain(|_, before| met.duration_since(*before) < STRANDED);
        if stranded.len() < COUNTED {
            stranded.insert((namespace.to_owned(), id.to_owned()), met);
        }
    }

    /// How many messages of this namespace have no queue that anybody knows.
    pub(crate) fn stranded(&self, namespace: &str) -> usize {
        let stranded = self.stranded.lock();
        let ours = stranded.iter().filter(|((whose, _), met)| whose == namespace && met.elapsed() < STRANDED);
        ours.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stranded_is_counted_once_and_for_its_namespace() {
        let shared = Shared::default();
        for (namespace, id) in [("a", "1"), ("a", "1"), ("a", "2"), ("b", "1")] {
            shared.strand(namespace, id);
        }
        assert_eq!((shared.stranded("a"), shared.stranded("b"), shared.stranded("c")), (2, 1, 0));
    }
}
