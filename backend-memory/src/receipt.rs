//! What a receipt says: who was handed a message, by which token, and until when at least.

use polyqueue::{Error, Receipt, Result};

use crate::clock::At;

/// Identifies a consumer in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ReaderId(pub(crate) u64);

/// Identifies one hand-out of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token(pub(crate) u64);

/// A receipt, read.
///
/// It carries the end of its first lease, so that nobody needs to remember every settled message until then: a token that
/// is missing while that end is still ahead was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stub {
    pub(crate) reader: ReaderId,
    pub(crate) token: Token,
    pub(crate) until: At,
}

const DIGITS: usize = 16;

impl Stub {
    /// Three numbers of sixteen hexadecimal digits.
    pub(crate) fn receipt(self) -> Receipt {
        let mut text = [0; 3 * DIGITS];
        for (number, digits) in
            [self.reader.0, self.token.0, self.until.0].into_iter().zip(text.chunks_mut(DIGITS))
        {
            for (place, digit) in digits.iter_mut().rev().enumerate() {
                *digit = b"0123456789abcdef"[(number >> (4 * place)) as usize & 15];
            }
        }
        Receipt::new(std::str::from_utf8(&text).expect("hexadecimal digits are ASCII"))
    }

    /// # Errors
    /// [`Error::Invalid`] for what no memory broker made.
    pub(crate) fn read(receipt: &Receipt) -> Result<Self> {
        let text = receipt.as_str();
        let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 3 * DIGITS || !text.bytes().all(digits) {
            return Err(unreadable());
        }
        let number = |part: usize| u64::from_str_radix(&text[part * DIGITS..(part + 1) * DIGITS], 16);
        match (number(0), number(1), number(2)) {
            (Ok(reader), Ok(token), Ok(until)) => {
                Ok(Self { reader: ReaderId(reader), token: Token(token), until: At(until) })
            }
            _ => Err(unreadable()),
        }
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
        let stub = Stub { reader: ReaderId(7), token: Token(u64::MAX), until: At(123_456_789) };
        assert_eq!(Stub::read(&stub.receipt()).unwrap(), stub);
    }

    #[test]
    fn what_no_memory_broker_made_is_invalid() {
        let cut = &Stub { reader: ReaderId(1), token: Token(2), until: At(3) }.receipt();
        for text in ["", "5:1763715600000-0", &"é".repeat(24), &cut.as_str()[1..], &"+".repeat(48)] {
            let error = Stub::read(&Receipt::new(text)).unwrap_err();
            assert!(matches!(&error, Error::Invalid { field, .. } if field == "receipt"), "{error}");
        }
    }
}
