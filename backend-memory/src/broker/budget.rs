//! How many bytes a broker may hold: each message keeps the room that it takes until it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use polyqueue::backend::{EventSender, PublishBlock};
use polyqueue::{Error, Message, Result};

/// What a message counts beyond its own bytes: the envelope and the places where it is remembered.
const OVERHEAD: u64 = 256;

/// The bytes of one broker.
#[derive(Debug)]
pub(crate) struct Budget {
    max: u64,
    used: AtomicU64,
    /// The smallest message that found no room, and finds none yet; 0 when there is none.
    refused: AtomicU64,
    block: PublishBlock,
}

impl Budget {
    /// Who hears the events is told when there is no room, and when there is again.
    pub(crate) fn new(max: u64, events: EventSender) -> Arc<Self> {
        let (used, refused) = Default::default();
        Arc::new(Self { max, used, refused, block: PublishBlock::new(events) })
    }

    /// Why a message that was refused would be refused again.
    pub(crate) fn blocked(&self) -> Option<String> {
        self.block.why()
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
            Err(_) => {
                // What is larger than all there is never fits: that is no state of the broker.
                if bytes <= self.max {
                    self.refuse(bytes);
                }
                Err(Error::full("the memory broker (bytes, max_bytes in its URL)", self.max))
            }
        }
    }

    fn refuse(&self, bytes: u64) {
        let smallest = |refused: u64| (refused == 0 || bytes < refused).then_some(bytes);
        let _ = self.refused.fetch_update(Relaxed, Relaxed, smallest);
        self.block.begin(&format!(
            "the memory broker blocks publishes: its {} bytes are used (max_bytes in its URL)",
            self.max
        ));
        self.note_freed();
    }

    fn free(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
        self.note_freed();
    }

    /// There may be room again for what was refused.
    fn note_freed(&self) {
        let refused = self.refused.load(Relaxed);
        if refused == 0 || self.used.load(Relaxed).saturating_add(refused) > self.max {
            return;
        }
        if self.refused.compare_exchange(refused, 0, Relaxed, Relaxed).is_ok() {
            self.block.end();
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
        self.budget.free(self.bytes);
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.free(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back() {
        let budget = Budget::new(2 * (OVERHEAD + 136), EventSender::new(""));
        let message = Message::new(vec![0; 100]);
        let first = budget.reserve(&message).unwrap();
        let mut second = budget.reserve(&message).unwrap();
        second.refit(&message);
        second.grow("an error".len());
        let full = budget.reserve(&message).unwrap_err();
        assert!(matches!(full, Error::Full { limit, .. } if limit == budget.max()), "{full}");
        assert!(budget.blocked().unwrap().contains("max_bytes"));
        drop(first);
        second.refit(&message);
        assert_eq!(budget.blocked(), None, "it would fit now");
        assert!(budget.reserve(&Message::new(vec![0; 10_000])).is_err());
        assert_eq!(budget.blocked(), None, "it never fits");
        drop(second);
        assert_eq!(budget.used.load(Relaxed), 0);
    }
}
