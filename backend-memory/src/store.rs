//! One message into every queue that it reaches, or into none.

use std::time::Duration;

use polyqueue::{Error, Message, MessageId, Published, Result};

use crate::budget::Room;
use crate::cell::State;
use crate::line::{Entry, Item};
use crate::mutants::{Bug, planted};

/// What became of a message.
pub(crate) enum Put {
    /// It has its answer.
    Done(Result<Published>),
    /// A queue has no room yet, and nothing is stored.
    Wait(Box<Item>),
}

/// Whether somebody keeps the dedup keys of a batch whose message at `keyed` is the first that has one.
///
/// # Errors
/// [`Error::Invalid`] when nobody does.
pub(crate) fn check_keys(states: &[&mut State], keyed: Option<usize>) -> Result<()> {
    match keyed {
        Some(at) if !states.iter().any(|state| state.line.keeps_keys()) => Err(no_keys().at(at)),
        _ => Ok(()),
    }
}

fn no_keys() -> Error {
    Error::invalid("dedup key", "given, but no queue here keeps any: declare it with QueueSpec::dedup")
}

/// Stores a message in all of these queues that do not know its key, or in none.
pub(crate) fn put(states: &mut [&mut State], item: Box<Item>) -> Put {
    let (mut open, mut wait, mut refused, mut first) = (0, false, None, None);
    if item.message.dedup_key().is_some() && !states.iter().any(|state| state.line.keeps_keys()) {
        return Put::Done(Err(no_keys()));
    }
    for state in states.iter_mut() {
        match state.line.look(&item.message) {
            Entry::Open => open += 1,
            Entry::Duplicate(id) => first = first.or(Some(id)),
            Entry::Wait => wait = true,
            Entry::Full(full) => {
                state.line.refuse();
                refused = refused.or(Some(full));
            }
        }
    }
    match (refused, first) {
        (Some(full), _) => {
            if planted(Bug::PartlyStored) && open > 0 {
                let _stored = copy(states, item, open);
            }
            Put::Done(Err(full))
        }
        _ if wait => Put::Wait(item),
        (None, Some(first)) if open == 0 => Put::Done(Ok(skip(states, item, first))),
        _ => Put::Done(copy(states, item, open)),
    }
}

/// Nothing is stored: every queue knows the key.
fn skip(states: &mut [&mut State], item: Box<Item>, first: MessageId) -> Published {
    let id = item.message.id().clone();
    states.iter_mut().for_each(|state| state.line.skip());
    if let (true, Some(state)) = (planted(Bug::DuplicateStored), states.first_mut()) {
        state.line.enter(item);
    }
    Published::duplicate(id, first)
}

/// Whether a queue has no room for a message yet.
pub(crate) fn is_held_back(state: &mut State, item: &Item) -> bool {
    matches!(state.line.look(&item.message), Entry::Wait)
}

/// One copy for each queue that is open; the last gets the message itself.
fn copy(states: &mut [&mut State], item: Box<Item>, open: usize) -> Result<Published> {
    let rooms: Result<Vec<Room>> = (1..open).map(|_| item.room.another(&item.message)).collect();
    let mut rooms = rooms?;
    let stored = Published::stored(item.message.id().clone());
    for state in states.iter_mut() {
        if let Entry::Duplicate(_) = state.line.look(&item.message) {
            state.line.skip();
        }
    }
    let mut original = Some(item);
    for state in states.iter_mut() {
        let Some(item) = &original else { break };
        if !matches!(state.line.look(&item.message), Entry::Open) {
            continue;
        }
        let copy = match rooms.pop() {
            Some(room) => Some(Item::new(copied(&item.message), room)),
            None => original.take(),
        };
        copy.into_iter().for_each(|copy| state.line.enter(copy));
    }
    Ok(stored)
}

fn copied(message: &Message) -> Message {
    let delay = if planted(Bug::CopyUndelayed) { Duration::ZERO } else { message.delay() };
    message.clone().with_delay(delay)
}
