//! What every receipt says beside the name of its hand-out: when it was handed out and when its first lease ends.
//!
//! So nobody has to remember every settled message until then: a hand-out that is unknown while its end is still ahead was
//! settled.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// When a message was handed out, and when its first lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptTimes {
    /// The hand-out.
    pub handed: Instant,
    /// The end of the lease that began with it.
    pub until: Instant,
}

impl ReceiptTimes {
    /// As text without `;` or `:`, told from `epoch`.
    pub fn display(&self, epoch: Instant) -> impl fmt::Display + use<> {
        let since = |instant: Instant| instant.saturating_duration_since(epoch).as_micros();
        Micros(since(self.handed), since(self.until))
    }

    /// From that text, with the same epoch; `None` for any other.
    pub fn read(text: &str, epoch: Instant) -> Option<Self> {
        let (handed, until) = text.split_once('.')?;
        let instant = |hex| epoch.checked_add(Duration::from_micros(u64::from_str_radix(hex, 16).ok()?));
        Some(Self { handed: instant(handed)?, until: instant(until)? })
    }
}

struct Micros(u128, u128);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_written_is_read() {
        let epoch = Instant::now();
        let (handed, until) = (epoch + Duration::from_micros(5), epoch + Duration::from_secs(30));
        let times = ReceiptTimes { handed, until };
        assert_eq!(times.display(epoch).to_string(), "5.1c9c380");
        assert_eq!(ReceiptTimes::read("5.1c9c380", epoch), Some(times));
        let early = ReceiptTimes { handed: epoch, until };
        assert_eq!(early.display(until).to_string(), "0.0");
    }

    #[tokio::test(start_paused = true)]
    async fn anything_else_is_not() {
        let long = "f".repeat(17);
        for text in ["", "5", ".", "5.", "x.y", "-1.5", &format!("0.{long}"), "1.🦀"] {
            assert_eq!(ReceiptTimes::read(text, Instant::now()), None, "{text}");
        }
    }
}
