//! What differs between the broker's kinds of queue.

use std::fmt::Debug;

use lapin::types::FieldTable;

/// The kind of broker queue that holds our messages.
pub(crate) trait QueueType: Debug + Send + Sync {
    /// Arguments of a queue that holds ready messages; the broker files what expires there as dead letters.
    fn ready_arguments(&self, dead: &str) -> FieldTable;

    /// Arguments of a queue that holds dead letters: in order of arrival, hence without priorities.
    fn dead_arguments(&self) -> FieldTable;

    /// Which attempt a delivery is, `written` being the one that its copy was made for. Kinds that count deliveries say so in
    /// the delivery's `headers`.
    fn attempt(&self, written: u32, redelivered: bool, headers: Option<&FieldTable>) -> u32;

    /// Whether a message that was returned must be published again, for only a copy can tell its next attempt.
    fn republishes_returned(&self) -> bool;

    /// Whether the broker may hand out what has expired, and files it only when it is given back.
    fn overlooks_expired(&self) -> bool;

    /// How many ack frames one fence vouches for.
    fn acks_per_fence(&self) -> usize;
}
