//! What a receipt says: who was handed a message, by which token, and until when at least.

use polyqueue::{Error, Receipt, Result};

use crate::broker::clock::At;
use crate::broker::state::ids::{ConsumerId, ReceiptParts, Token};

/// Three numbers.
pub(crate) fn receipt(parts: ReceiptParts) -> Receipt {
    Receipt::from_words([parts.consumer.0, parts.token.0, parts.until.0])
}

/// # Errors
/// [`Error::Invalid`] for what no memory broker made.
pub(crate) fn read(receipt: &Receipt) -> Result<ReceiptParts> {
    let [consumer, token, until] = receipt.words().ok_or_else(unreadable)?;
    Ok(ReceiptParts { consumer: ConsumerId(consumer), token: Token(token), until: At(until) })
}

fn unreadable() -> Error {
    Error::invalid("receipt", "unreadable: allowed are those that this consumer's `receive` brought")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_read_as_it_was_written() {
        let receipt_parts =
            ReceiptParts { consumer: ConsumerId(7), token: Token(u64::MAX), until: At(123_456_789) };
        assert_eq!(read(&receipt(receipt_parts)).unwrap(), receipt_parts);
    }

    #[test]
    fn what_no_memory_broker_made_is_invalid() {
        for text in ["", "5:1763715600000-0"] {
            let error = read(&Receipt::new(text)).unwrap_err();
            assert!(matches!(&error, Error::Invalid { field, .. } if field == "receipt"), "{error}");
        }
    }
}
