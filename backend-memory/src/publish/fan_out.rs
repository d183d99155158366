//! One message into every queue that it reaches, or into none.

use std::time::Duration;

use polyqueue::{Error, Message, MessageId, Published, Result};

use crate::broker::budget::Reservation;
use crate::broker::locked_queue::State;
use crate::broker::state::publish;
use crate::broker::state::publish::Admission;
use crate::broker::state::stored::Stored;
use crate::mutants::{Bug, planted};

/// What became of a message.
pub(crate) enum Put {
    /// It has its answer.
    Done(Result<Published>),
    /// A queue has no room yet, and nothing is stored.
    Wait(Box<Stored>),
}

/// Whether somebody keeps the dedup keys of a batch whose message at `keyed` is the first that has one.
///
/// # Errors
/// [`Error::Invalid`] when nobody does.
pub(crate) fn check_keys(states: &[&mut State], keyed: Option<usize>) -> Result<()> {
    match keyed {
        Some(at) if !states.iter().any(|state| state.queue.keeps_keys()) => Err(no_keys().at(at)),
        _ => Ok(()),
    }
}

fn no_keys() -> Error {
    Error::invalid("dedup key", "given, but no queue here keeps any: declare it with QueueSpec::dedup")
}

/// Stores a message in all of these queues that do not know its key, or in none.
pub(crate) fn put(states: &mut [&mut State], item: Box<Stored>) -> Put {
    let (mut open, mut wait, mut refused, mut first) = (0, false, None, None);
    if item.message.dedup_key().is_some() && !states.iter().any(|state| state.queue.keeps_keys()) {
        return Put::Done(Err(no_keys()));
    }
    for state in states.iter_mut() {
        match publish::look(&mut state.queue, &item.message) {
            Admission::Open => open += 1,
            Admission::Duplicate(id) => first = first.or(Some(id)),
            Admission::Wait => wait = true,
            Admission::Full(full) => {
                state.queue.refuse();
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
fn skip(states: &mut [&mut State], item: Box<Stored>, first: MessageId) -> Published {
    let id = item.message.id().clone();
    states.iter_mut().for_each(|state| state.queue.skip());
    if let (true, Some(state)) = (planted(Bug::DuplicateStored), states.first_mut()) {
        publish::enter(&mut state.queue, item);
    }
    Published::duplicate(id, first)
}

/// Whether a queue has no room for a message yet.
pub(crate) fn is_held_back(state: &mut State, item: &Stored) -> bool {
    matches!(publish::look(&mut state.queue, &item.message), Admission::Wait)
}

/// One copy for each queue that is open; the last gets the message itself.
fn copy(states: &mut [&mut State], item: Box<Stored>, open: usize) -> Result<Published> {
    let rooms: Result<Vec<Reservation>> = (1..open).map(|_| item.room.another(&item.message)).collect();
    let mut rooms = rooms?;
    let stored = Published::stored(item.message.id().clone());
    for state in states.iter_mut() {
        if let Admission::Duplicate(_) = publish::look(&mut state.queue, &item.message) {
            state.queue.skip();
        }
    }
    let mut original = Some(item);
    for state in states.iter_mut() {
        let Some(item) = &original else { break };
        if !matches!(publish::look(&mut state.queue, &item.message), Admission::Open) {
            continue;
        }
        let copy = match rooms.pop() {
            Some(room) => Some(Stored::new(copied(&item.message), room)),
            None => original.take(),
        };
        copy.into_iter().for_each(|copy| publish::enter(&mut state.queue, copy));
    }
    Ok(stored)
}

fn copied(message: &Message) -> Message {
    let delay = if planted(Bug::CopyUndelayed) { Duration::ZERO } else { message.delay() };
    message.clone().with_delay(delay)
}
