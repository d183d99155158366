//! How far a consumer has come on one channel.

use std::time::Duration;

use tokio::time::Instant;

/// How long to leave the queue alone when nothing can be published.
const PAUSE: Duration = Duration::from_millis(200);

/// How far a consumer has come on one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// Nothing is fetched until then.
    Paused(Instant),
    /// Nobody receives; what is out can be settled.
    Closing,
    /// Nobody needs the consumer any more: it ends when nothing is left to do, or then.
    Ending(Instant),
}

impl Phase {
    /// What it is once nothing could be published.
    pub(crate) fn paused(self) -> Self {
        if self.is_open() { Self::Paused(Instant::now() + PAUSE) } else { self }
    }

    /// Whether somebody may receive.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Serving | Self::Paused(_))
    }

    pub(crate) fn is_ending(self) -> bool {
        matches!(self, Self::Ending(_))
    }

    /// When it is over by itself.
    pub(crate) fn until(self) -> Option<Instant> {
        match self {
            Self::Paused(until) | Self::Ending(until) => Some(until),
            Self::Serving | Self::Closing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_an_open_consumer_is_paused() {
        let paused = Phase::Paused(Instant::now() + PAUSE);
        let ending = Phase::Ending(Instant::now());
        for (phase, expected) in [
            (Phase::Serving, paused),
            (Phase::Paused(Instant::now()), paused),
            (Phase::Closing, Phase::Closing),
            (ending, ending),
        ] {
            assert_eq!(phase.paused(), expected);
        }
    }
}
