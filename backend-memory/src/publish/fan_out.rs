//! One message into every queue that it reaches, or into none.

use std::slice;
use std::time::Duration;

use polyqueue::{Error, Message, MessageId, Published, Result, RoutingKey};

use crate::broker::budget::Reservation;
use crate::broker::locked_queue::State;
use crate::broker::queue_ref::QueueRef;
use crate::broker::state::publish;
use crate::broker::state::publish::Admission;
use crate::broker::state::stored::Stored;
use crate::connection::handle::Handle;
use crate::mutants::{Bug, planted};

/// What became of a message.
pub(crate) enum Put {
    /// It has its answer, and so many copies are yet to be stored where none can be refused.
    Done(Result<Published>, Vec<Box<Stored>>),
    /// A queue has no room yet, and nothing is stored.
    Wait(Box<Stored>),
    /// It is not known yet, and nothing is stored: a queue has more to do first than there are steps for.
    GoOn(Box<Stored>),
}

/// Whether somebody keeps the dedup keys of a batch whose message at `keyed` is the first that has one.
///
/// # Errors
/// [`Error::Invalid`] when nobody does.
pub(crate) fn check_keys(queue_refs: &[QueueRef], keyed: Option<usize>) -> Result<()> {
    match keyed {
        Some(at) if !keep_keys(queue_refs) => Err(no_keys().at(at)),
        _ => Ok(()),
    }
}

/// Whether one of these queues keeps dedup keys.
pub(crate) fn keep_keys(queue_refs: &[QueueRef]) -> bool {
    queue_refs.iter().any(|queue_ref| queue_ref.terms().keeps_keys)
}

fn no_keys() -> Error {
    Error::invalid("dedup key", "given, but no queue here keeps any: declare it with QueueSpec::dedup")
}

/// Whether all these queues are bound to the key still. Asked under their locks, so that no copy goes by a stale route.
pub(crate) fn are_reached(handle: &Handle, key: &RoutingKey, queue_refs: &[QueueRef]) -> bool {
    let queues = handle.namespace.queues.read();
    queue_refs.iter().all(|queue_ref| queues.reaches(key, queue_ref))
}

/// Stores a copy in a queue that cannot refuse it, unless it is bound to the key no more.
pub(crate) fn store_copy(handle: &Handle, key: &RoutingKey, to: &QueueRef, copy: Box<Stored>) {
    let mut copy = Some(copy);
    while copy.is_some() {
        to.try_call(|state| {
            let stays = !state.queue.is_deleted() && are_reached(handle, key, slice::from_ref(to));
            let copy = copy.take().filter(|_| stays);
            copy.into_iter().for_each(|copy| publish::enter(&mut state.queue, copy));
            publish::announce(&mut state.queue);
        });
    }
}

/// Stores a message in all of these queues that do not know its key, or in none; so many more queues cannot refuse it.
pub(crate) fn put(states: &mut [&mut State], item: Box<Stored>, keeps_keys: bool, more: usize) -> Put {
    if item.message.dedup_key().is_some() && !keeps_keys {
        return Put::Done(Err(no_keys()), Vec::new());
    }
    let (mut open, mut wait, mut refused, mut first) = (more, false, None, None);
    for state in states.iter_mut() {
        match publish::look(&mut state.queue, &item.message) {
            Admission::Open => open += 1,
            Admission::Duplicate(id) => first = first.or(Some(id)),
            Admission::Wait => wait = true,
            Admission::Full(full) => refused = refused.or(Some(full)),
        }
    }
    if states.iter().any(|state| !state.queue.is_caught_up()) {
        return Put::GoOn(item);
    }
    match (refused, first) {
        (Some(full), _) => {
            states.iter_mut().for_each(|state| refuse(state, &item));
            if planted(Bug::PartlyStored) && open > 0 {
                let _stored = copy(states, item, open);
            }
            Put::Done(Err(full), Vec::new())
        }
        _ if wait => Put::Wait(item),
        (None, Some(first)) if open == 0 => Put::Done(Ok(skip(states, item, first)), Vec::new()),
        _ => copy(states, item, open),
    }
}

/// Counts it where it is full.
fn refuse(state: &mut State, item: &Stored) {
    if matches!(publish::look(&mut state.queue, &item.message), Admission::Full(_)) {
        state.queue.refuse();
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
fn copy(states: &mut [&mut State], item: Box<Stored>, open: usize) -> Put {
    let rooms: Result<Vec<Reservation>> = (1..open).map(|_| item.room.another(&item.message)).collect();
    let mut rooms = match rooms {
        Ok(rooms) => rooms,
        Err(full) => return Put::Done(Err(full), Vec::new()),
    };
    let stored = Published::stored(item.message.id().clone());
    for state in states.iter_mut() {
        if let Admission::Duplicate(_) = publish::look(&mut state.queue, &item.message) {
            state.queue.skip();
        }
    }
    let mut original = Some(item);
    for state in states.iter_mut() {
        let Some(item) = &original else { break };
        if matches!(publish::look(&mut state.queue, &item.message), Admission::Open) {
            let copy = next_copy(&mut original, &mut rooms);
            copy.into_iter().for_each(|copy| publish::enter(&mut state.queue, copy));
        }
    }
    Put::Done(Ok(stored), std::iter::from_fn(|| next_copy(&mut original, &mut rooms)).collect())
}

fn next_copy(original: &mut Option<Box<Stored>>, rooms: &mut Vec<Reservation>) -> Option<Box<Stored>> {
    let Some(room) = rooms.pop() else { return original.take() };
    let item = original.as_ref()?;
    Some(Stored::new(copied(&item.message), room))
}

fn copied(message: &Message) -> Message {
    let delay = if planted(Bug::CopyUndelayed) { Duration::ZERO } else { message.delay() };
    message.clone().with_delay(delay)
}
