//! When a consumer claims although nobody told it to.

use std::time::Duration;

use polyqueue::backend::Jitter;
use tokio::time::Instant;

use crate::consume::claim::Claimed;

/// How long a waiting consumer asks nothing …
const SAFETY: Duration = Duration::from_secs(4);
/// … and how much longer, by chance: those that began together do not ask together for good.
const SAFETY_JITTER: Duration = Duration::from_secs(1);
/// When a consumer finds nothing although something was due, others got it. So that they do not all ask again in the same
/// instant, each waits, by chance, up to this long for each that waits: some of them are early, few ask.
const CROWD_SPREAD: Duration = Duration::from_millis(1);
/// The most that one waits for that.
const CROWD_SPREAD_MOST: Duration = Duration::from_millis(100);
/// When to claim although nobody said anything.
#[derive(Clone, Copy)]
pub(super) enum NextClaim {
    Now,
    /// Something is due then.
    Due(Instant),
    /// In case nobody said, or after a failure.
    Poll(Instant),
}

impl NextClaim {
    /// When; at once for nothing.
    pub(super) fn at(self) -> Option<Instant> {
        match self {
            Self::Now => None,
            Self::Due(at) | Self::Poll(at) => Some(at),
        }
    }

    /// Whether it is time.
    pub(super) fn has_come(self) -> bool {
        self.at().is_none_or(|at| at <= Instant::now())
    }

    /// After a claim. `unprompted`: nobody told us, many others may ask in the same instant for the same reason.
    pub(super) fn after(claimed: &Claimed, unprompted: bool, chance: &Jitter) -> Self {
        let safety = chance.between(SAFETY, SAFETY_JITTER);
        let due = claimed.next.filter(|next| *next < safety);
        let wait = match due {
            _ if claimed.more => Duration::ZERO,
            Some(due) if unprompted => due.max(chance.between(Duration::ZERO, spread(claimed.crowd))),
            Some(due) => due,
            None => safety,
        };
        let at = Instant::now() + wait;
        if due.is_some() { Self::Due(at) } else { Self::Poll(at) }
    }
}

fn spread(crowd: u64) -> Duration {
    CROWD_SPREAD.saturating_mul(u32::try_from(crowd).unwrap_or(u32::MAX)).min(CROWD_SPREAD_MOST)
}
