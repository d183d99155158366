//! What a receipt says: who was handed a message, by which token, and until when at least.

use polyqueue::{Error, Receipt, Result};

use crate::broker::clock::At;
use crate::broker::state::ids::{ConsumerId, ReceiptParts, Token};

const DIGITS: usize = 16;

/// Three numbers of sixteen hexadecimal digits.
pub(crate) fn receipt(parts: ReceiptParts) -> Receipt {
    let mut text = [0; 3 * DIGITS];
    for (number, digits) in
        [parts.consumer.0, parts.token.0, parts.until.0].into_iter().zip(text.chunks_mut(DIGITS))
    {
        for (place, digit) in digits.iter_mut().rev().enumerate() {
            *digit = b"0123456789abcdef"[(number >> (4 * place)) as usize & 15];
        }
    }
    Receipt::new(std::str::from_utf8(&text).expect("hexadecimal digits are ASCII"))
}

/// # Errors
/// [`Error::Invalid`] for what no memory broker made.
pub(crate) fn read(receipt: &Receipt) -> Result<ReceiptParts> {
    let text = receipt.as_str();
    let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != 3 * DIGITS || !text.bytes().all(digits) {
        return Err(unreadable());
    }
    let number = |part: usize| u64::from_str_radix(&text[part * DIGITS..(part + 1) * DIGITS], 16);
    match (number(0), number(1), number(2)) {
        (Ok(consumer), Ok(token), Ok(until)) => {
            Ok(ReceiptParts { consumer: ConsumerId(consumer), token: Token(token), until: At(until) })
        }
        _ => Err(unreadable()),
    }
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
        let cut = ReceiptParts { consumer: ConsumerId(1), token: Token(2), until: At(3) };
        for text in ["", "5:1763715600000-0", &"é".repeat(24), &receipt(cut).as_str()[1..], &"+".repeat(48)]
        {
            let error = read(&Receipt::new(text)).unwrap_err();
            assert!(matches!(&error, Error::Invalid { field, .. } if field == "receipt"), "{error}");
        }
    }
}
