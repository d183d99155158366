//! A dead letter that lies on a channel.

use lapin::message::Delivery;
use polyqueue::{DeadLetter, Message, QueueName};

use super::dead;
use super::decode::AttemptHistory;
use super::properties::Raw;
use super::terms;

/// Where a letter lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag {
    /// The channel that read it; `None` for that of the lock.
    pub(crate) reader: Option<usize>,
    pub(crate) tag: u64,
}

/// A letter on its channel.
pub(crate) struct BrowsedLetter {
    pub(crate) tag: Tag,
    pub(crate) letter: DeadLetter,
    pub(crate) lives: AttemptHistory,
    pub(crate) raw: Raw,
}

impl BrowsedLetter {
    /// The message of a letter that the broker filed: its dedup key is still to be freed.
    pub(crate) fn unnoticed(&self) -> Option<Message> {
        let message = self.letter.message().filter(|message| message.dedup_key().is_some());
        message.filter(|_| terms::is_unnoticed(&self.raw.properties)).cloned()
    }
}

pub(crate) fn read(queue: &QueueName, tag: Tag, delivery: Delivery) -> BrowsedLetter {
    let raw = Raw { properties: delivery.properties, body: delivery.data.into() };
    let (letter, lives) = dead::read_dead_letter(queue, &raw);
    BrowsedLetter { tag, letter, lives, raw }
}
