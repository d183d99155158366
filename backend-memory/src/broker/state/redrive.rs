//! Dead letters are listed, redriven and discarded by id.

#[cfg(polyqueue_mutants)]
use polyqueue::DeadLetter;
use polyqueue::{DeadBody, DeadFilter, DeadId, DeadPage, Error, Page, Result};

use super::consume;
use super::dead_letters::Record;
use super::queue_state::QueueState;
use super::stored::Stored;
#[cfg(polyqueue_mutants)]
use crate::broker::budget::Reservation;
use crate::mutants::{Bug, planted};

/// The letters that match, from where a cursor points.
///
/// # Errors
/// [`Error::Invalid`] for a cursor that is none of ours.
pub(crate) fn dead_letters(queue: &QueueState, filter: &DeadFilter, page: &Page) -> Result<DeadPage> {
    let from = match &page.after {
        None => 0,
        Some(cursor) => cursor.as_str().parse().map_err(|_| {
            Error::invalid("cursor", "unreadable: allowed are those that a listing of this queue answered")
        })?,
    };
    Ok(queue.dead.page(filter, from, page.limit))
}

/// Makes a dead letter ready again, its time to live as long as ever; `false` when it is not there.
pub(crate) fn redrive(queue: &mut QueueState, id: &DeadId) -> bool {
    let Some(Record { letter, room, .. }) = take_letter(queue, id) else { return false };
    #[cfg(polyqueue_mutants)]
    keep_letter(queue, &letter, &room);
    let mut item = match letter.body {
        DeadBody::Message(message) => Stored::new(*message, room),
        DeadBody::Raw(bytes) => Stored::unreadable(bytes, room),
    };
    item.earlier = letter.total_attempts;
    item.redriven = letter.redriven.saturating_add(1);
    item.holder = letter.consumer.map(Into::into);
    if planted(Bug::RedriveKeepsAttempts) {
        item.attempts = letter.attempts;
    }
    if planted(Bug::RedriveLosesHeaders) {
        item.message.headers_mut().clear();
    }
    item.live_from(queue.now);
    item.room.refit(&item.message, "");
    queue.make_ready(item, queue.now);
    consume::serve(queue);
    true
}

#[cfg(polyqueue_mutants)]
fn keep_letter(queue: &mut QueueState, letter: &DeadLetter, room: &Reservation) {
    let number = letter.id.as_str().split_once('-').and_then(|(_, number)| number.parse().ok());
    if let (true, Some(number), Some(message)) = (planted(Bug::RedriveKeepsLetter), number, letter.message())
        && let Ok(room) = room.another(message)
    {
        queue.dead.0.insert(number, Record { letter: letter.clone(), room, died: queue.now });
    }
}

/// Removes a dead letter for good; `false` when it is not there.
pub(crate) fn discard(queue: &mut QueueState, id: &DeadId) -> bool {
    take_letter(queue, id).is_some()
}

fn take_letter(queue: &mut QueueState, id: &DeadId) -> Option<Record> {
    let (serial, number) = id.as_str().split_once('-')?;
    let number = number.parse().ok()?;
    // Compared as text: `01` is not another way to write 1.
    let known = queue.dead.0.get(&number)?;
    if known.letter.id != *id || serial.parse() != Ok(queue.serial) {
        return None;
    }
    queue.dead.0.remove(&number)
}
