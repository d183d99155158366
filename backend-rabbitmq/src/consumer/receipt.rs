//! What a receipt says: which consumer, which of its channels, which delivery.

use polyqueue::{Error, Receipt, Result};

/// One delivery of one channel of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// Counts the consumer's channels.
    pub(crate) epoch: u64,
    /// The broker's delivery tag on that channel.
    pub(crate) tag: u64,
}

impl Key {
    /// The receipt of the consumer that is known by `nonce`.
    pub(crate) fn receipt(self, nonce: &str) -> Receipt {
        Receipt::new(format!("{nonce}:{}:{}", self.epoch, self.tag))
    }

    /// The key in a receipt; `None` when it is another consumer's.
    ///
    /// # Errors
    /// `Invalid` for a text that no consumer made.
    pub(crate) fn read(receipt: &Receipt, nonce: &str) -> Result<Option<Self>> {
        let text = receipt.as_str();
        let key = parse(text).ok_or_else(|| {
            let given: String = text.chars().take(60).collect();
            Error::invalid("receipt", format!("{given:?} given, allowed is what a delivery brought"))
        })?;
        Ok((text.split(':').next() == Some(nonce)).then_some(key))
    }
}

fn parse(text: &str) -> Option<Key> {
    let mut parts = text.split(':');
    let nonce = parts.next()?;
    let well_formed = nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
    let key = Key { epoch: parts.next()?.parse().ok()?, tag: parts.next()?.parse().ok()? };
    (well_formed && parts.next().is_none()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "f123456789abcdef0123456789abcdef";

    #[test]
    fn a_receipt_is_read_back_where_it_was_made_only() {
        let key = Key { epoch: 3, tag: 77 };
        assert_eq!(Key::read(&key.receipt(MINE), MINE).unwrap(), Some(key));
        assert_eq!(Key::read(&key.receipt(MINE), OTHER).unwrap(), None);
    }

    #[test]
    fn garbage_is_invalid() {
        for text in ["", "x", "5:1763715600000-0", &format!("{MINE}:1"), &format!("{MINE}:1:2:3")] {
            assert!(matches!(Key::read(&Receipt::new(text), MINE), Err(Error::Invalid { .. })), "{text}");
        }
    }
}
