//! How many bytes calls take on a line: their payloads, and a constant for everything else.

use polyqueue::{Delivery, Message};

/// A call, or an answer, without anything in it.
pub(crate) const EMPTY: u64 = 64;
/// What a message takes beside its payload.
const ENVELOPE: u64 = 128;
/// A receipt with its verdict, an id, an answer to one of many.
pub(crate) const ITEM: u64 = 32;

pub(crate) fn of_messages(messages: &[Message]) -> u64 {
    EMPTY + messages.iter().map(of_message).sum::<u64>()
}

pub(crate) fn of_deliveries(deliveries: &[Delivery]) -> u64 {
    EMPTY + deliveries.iter().map(|delivery| ITEM + of_message(&delivery.message)).sum::<u64>()
}

pub(crate) fn of_items(items: usize) -> u64 {
    EMPTY + ITEM * items as u64
}

fn of_message(message: &Message) -> u64 {
    ENVELOPE + message.payload().len() as u64
}
