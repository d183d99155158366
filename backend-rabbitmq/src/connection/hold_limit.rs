//! How long the broker lets a consumer hold a message: its `consumer_timeout`, which it tells only whom it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What RabbitMQ allows unless configured.
const USUAL: Duration = Duration::from_secs(30 * 60);
/// What it says when it ends a channel for it, and before its number.
const ENDED: &str = "delivery acknowledgement on channel";
const NUMBER: &str = "Timeout value used: ";

/// What one client has learned of it. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct HoldLimit(Arc<AtomicU64>);

impl HoldLimit {
    /// Takes it from an error, where it is that one.
    pub(crate) fn learn(&self, error: &lapin::Error) {
        if let Some(millis) = said(&error.to_string()) {
            self.0.store(millis, Relaxed);
        }
    }

    /// Once a channel has ended for it.
    pub(crate) fn known(&self) -> Option<Duration> {
        Some(self.0.load(Relaxed)).filter(|millis| *millis > 0).map(Duration::from_millis)
    }

    /// How long a message may wait in a client's buffer: the broker looks at its own pace, and giving back takes time.
    pub(crate) fn waiting(&self) -> Duration {
        self.known().unwrap_or(USUAL) / 2
    }
}

/// Whether a channel was closed for the want of an ack.
pub(crate) fn is_of_a_held_message(said: &str) -> bool {
    said.contains(ENDED)
}

fn said(text: &str) -> Option<u64> {
    let (_, number) = text.split_once(NUMBER).filter(|_| is_of_a_held_message(text))?;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_read_from_the_words_that_end_a_channel() {
        let text = "PRECONDITION_FAILED - delivery acknowledgement on channel 3 timed out. Timeout value used: 4000 ms. This \
                    timeout value can be configured, see consumers doc guide to learn more";
        assert_eq!(said(text), Some(4000));
        for other in ["", "Timeout value used: 4000 ms", "delivery acknowledgement on channel 3 timed out"] {
            assert_eq!(said(other), None, "{other}");
        }
    }

    #[test]
    fn until_it_is_known_the_usual_one_counts() {
        let limit = HoldLimit::default();
        assert_eq!((limit.known(), limit.waiting()), (None, USUAL / 2));
        limit.0.store(4000, Relaxed);
        assert_eq!(
            (limit.known(), limit.waiting()),
            (Some(2 * Duration::from_secs(2)), Duration::from_secs(2))
        );
    }
}
