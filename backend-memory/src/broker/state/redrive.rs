//! Dead letters are listed, redriven and discarded by id.

#[cfg(polyqueue_mutants)]
use polyqueue::DeadLetter;
use polyqueue::{DeadBody, DeadId};

use super::consume;
use super::dead_letters::{Listing, Record};
use super::queue_state::QueueState;
use super::stored::Stored;
#[cfg(polyqueue_mutants)]
use crate::broker::budget::Reservation;
use crate::mutants::{Bug, planted};

/// Goes on with a listing as far as there are steps; whether it is done.
pub(crate) fn read_on(queue: &mut QueueState, listing: &mut Listing<'_>) -> bool {
    let looked = queue.dead.read_on(listing, queue.steps.left());
    (0..looked).for_each(|_| queue.steps.take());
    listing.is_full()
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
    queue.steps.take();
    let (serial, number) = id.as_str().split_once('-')?;
    let number = number.parse().ok()?;
    // Compared as text: `01` is not another way to write 1.
    let known = queue.dead.0.get(&number)?;
    if known.letter.id != *id || serial.parse() != Ok(queue.serial) {
        return None;
    }
    queue.dead.0.remove(&number)
}
