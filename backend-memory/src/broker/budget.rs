//! How many bytes a broker may hold: each message keeps the room that it takes until it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use polyqueue::{Error, Message, Result};

/// What a message counts beyond its own bytes: the envelope and the places where it is remembered.
const OVERHEAD: u64 = 256;

/// The bytes of one broker.
#[derive(Debug)]
pub(crate) struct Budget {
    max: u64,
    used: AtomicU64,
}

impl Budget {
    pub(crate) fn new(max: u64) -> Arc<Self> {
        Arc::new(Self { max, used: AtomicU64::new(0) })
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// Reservation for a message, or a definite `Full`.
    pub(crate) fn reserve(self: &Arc<Self>, message: &Message) -> Result<Reservation> {
        let bytes = size(message);
        let add = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= self.max);
        match self.used.fetch_update(Relaxed, Relaxed, add) {
            Ok(_) => Ok(Reservation { budget: self.clone(), bytes }),
            Err(_) => Err(Error::full("the memory broker (bytes, max_bytes in its URL)", self.max)),
        }
    }
}

fn size(message: &Message) -> u64 {
    let headers: usize = message.headers().iter().map(|(key, value)| key.len() + value.len() + 64).sum();
    let rare = [message.last_error(), message.correlation_id(), message.dedup_key()];
    let rare: usize = rare.into_iter().flatten().map(str::len).sum();
    let reply_to = message.reply_to().map_or(0, |address| address.as_str().len());
    let texts = message.id().as_str().len() + message.kind().len() + rare + reply_to;
    OVERHEAD + (message.payload().len() + headers + texts) as u64
}

/// The bytes that one message takes; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Reservation {
    /// Reservation for one more of the same. Its payload is counted again, although copies share it.
    pub(crate) fn another(&self, message: &Message) -> Result<Self> {
        self.budget.reserve(message)
    }

    /// Reservation for what is remembered of a message beside it, also when it passes the maximum.
    pub(crate) fn beside(&self, bytes: usize) -> Self {
        let bytes = OVERHEAD + bytes as u64;
        self.budget.used.fetch_add(bytes, Relaxed);
        Self { budget: self.budget.clone(), bytes }
    }

    /// Beside the message stands a text of so many bytes now, also when that passes the maximum.
    pub(crate) fn grow(&mut self, bytes: usize) {
        self.budget.used.fetch_add(bytes as u64, Relaxed);
        self.bytes += bytes as u64;
    }

    /// The message changed, and nothing stands beside it. A verdict is never refused for want of room: it may pass the maximum.
    pub(crate) fn refit(&mut self, message: &Message) {
        let bytes = size(message);
        self.budget.used.fetch_add(bytes, Relaxed);
        self.budget.used.fetch_sub(self.bytes, Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back() {
        let budget = Budget::new(2 * (OVERHEAD + 136));
        let message = Message::new(vec![0; 100]);
        let first = budget.reserve(&message).unwrap();
        let mut second = budget.reserve(&message).unwrap();
        second.refit(&message);
        second.grow("an error".len());
        let full = budget.reserve(&message).unwrap_err();
        assert!(matches!(full, Error::Full { limit, .. } if limit == budget.max()), "{full}");
        drop((first, second));
        assert_eq!(budget.used.load(Relaxed), 0);
    }
}
