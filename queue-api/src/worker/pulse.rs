//! Whether the application's runtime turns: leases are renewed without it, but not for ever.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// A runtime that does not turn for so many leases …
const LEASES: u32 = 20;
/// … and so long at least holds nothing any more.
const AT_LEAST: Duration = Duration::from_secs(60);

/// Beats while the application's runtime turns.
pub(super) struct Pulse {
    last: Mutex<Instant>,
    /// How long a runtime may stand still before what it holds is let go of.
    limit: Duration,
}

/// What the time since the last beat means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turning {
    Yes,
    /// For so long not, a third of what is allowed or more.
    Slowly(Duration),
    /// For longer than is allowed.
    No(Duration),
}

impl Pulse {
    /// `limit`: as set, or by the lease.
    pub(super) fn new(lease: Duration, limit: Option<Duration>) -> Arc<Self> {
        let limit = limit.unwrap_or_else(|| lease.saturating_mul(LEASES).max(AT_LEAST));
        Arc::new(Self { last: Mutex::new(Instant::now()), limit })
    }

    /// Runs on the runtime in question, and tells how late it ran.
    pub(super) async fn beat(self: Arc<Self>, every: Duration, woke: impl Fn(Duration)) {
        loop {
            // The first is due by when it was made: a thread may be blocked before this is first polled.
            let due = *self.last.lock() + every;
            sleep_until(due).await;
            woke(due.elapsed());
            *self.last.lock() = Instant::now();
        }
    }

    pub(super) fn turning(&self) -> Turning {
        let still = self.last.lock().elapsed();
        match still {
            _ if still >= self.limit => Turning::No(still),
            _ if still >= self.limit / 3 => Turning::Slowly(still),
            _ => Turning::Yes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn a_runtime_that_stands_still_is_warned_of_and_then_given_up() {
        let pulse = Pulse::new(Duration::from_secs(30), None);
        for (after, turning) in [
            (0, Turning::Yes),
            (199, Turning::Yes),
            (200, Turning::Slowly(Duration::from_secs(200))),
            (600, Turning::No(Duration::from_secs(600))),
        ] {
            *pulse.last.lock() = Instant::now();
            advance(Duration::from_secs(after)).await;
            assert_eq!(pulse.turning(), turning);
        }
        assert_eq!(Pulse::new(Duration::from_secs(1), None).limit, AT_LEAST);
        assert_eq!(Pulse::new(Duration::from_secs(1), Some(Duration::ZERO)).limit, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn it_beats_while_the_runtime_turns() {
        let pulse = Pulse::new(Duration::from_secs(1), None);
        let beating = tokio::spawn(pulse.clone().beat(Duration::from_secs(1), |_| ()));
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(pulse.turning(), Turning::Yes);
        beating.abort();
    }
}
