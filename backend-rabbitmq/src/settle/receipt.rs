//! What a receipt says: which consumer, which of its channels, which delivery, from when and until when.

use polyqueue::backend::ReceiptTimes;
use polyqueue::{Error, Receipt, Result};
use tokio::time::Instant;

/// One delivery of one channel of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// Counts the consumer's channels.
    pub(crate) epoch: u64,
    /// The broker's delivery tag on that channel.
    pub(crate) tag: u64,
}

impl Key {
    /// The receipt of the consumer that is known by `nonce`; times are told from `since`.
    pub(crate) fn receipt(self, nonce: &str, times: ReceiptTimes, since: Instant) -> Receipt {
        Receipt::new(format!("{nonce}:{}:{}:{}", self.epoch, self.tag, times.display(since)))
    }

    /// The key in a receipt, its times, and whether it is this consumer's.
    ///
    /// # Errors
    /// `Invalid` for a text that no consumer made.
    pub(crate) fn read(receipt: &Receipt, nonce: &str, since: Instant) -> Result<(Self, ReceiptTimes, bool)> {
        let text = receipt.text().unwrap_or_default();
        let (key, times) = parse(text, since).ok_or_else(|| {
            let given: String = text.chars().take(60).collect();
            Error::invalid("receipt", format!("{given:?} given, allowed is what a delivery brought"))
        })?;
        Ok((key, times, text.split(':').next() == Some(nonce)))
    }
}

fn parse(text: &str, since: Instant) -> Option<(Key, ReceiptTimes)> {
    let mut parts = text.split(':');
    let nonce = parts.next()?;
    let well_formed = nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
    let key = Key { epoch: parts.next()?.parse().ok()?, tag: parts.next()?.parse().ok()? };
    let times = ReceiptTimes::read(parts.next()?, since)?;
    (well_formed && parts.next().is_none()).then_some((key, times))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MINE: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "f123456789abcdef0123456789abcdef";

    #[test]
    fn a_receipt_is_read_back_where_it_was_made_only() {
        let (key, now) = (Key { epoch: 3, tag: 77 }, Instant::now());
        let times = ReceiptTimes { handed: now, until: now + Duration::from_secs(30) };
        let receipt = key.receipt(MINE, times, now);
        assert_eq!(Key::read(&receipt, MINE, now).unwrap(), (key, times, true));
        assert!(!Key::read(&receipt, OTHER, now).unwrap().2);
    }

    #[test]
    fn garbage_is_invalid() {
        let cut = format!("{MINE}:1:2");
        for text in ["", "x", "5:1763715600000-0", &cut, &format!("{cut}:3"), &format!("{cut}:3.4:5")] {
            let error = Key::read(&Receipt::new(text), MINE, Instant::now());
            assert!(matches!(error, Err(Error::Invalid { .. })), "{text}");
        }
    }
}
