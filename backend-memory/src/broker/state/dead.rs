//! Deaths, and how many dead letters are kept: those that are too many or too old are dropped, the oldest first, and counted.

use polyqueue::{DeadBody, DeadId, DeadLetter, DeadReason, cut_error};

use super::dead_letters::Record;
use super::queue_state::QueueState;
use super::stored::Stored;
use crate::broker::clock::At;
use crate::mutants::{Bug, planted};

/// What the error of a dead letter says whose time to live had ended.
const EXPIRED: &str = "expired";

/// Makes a dead letter of a message that is nowhere else.
pub(super) fn dead_letter(queue: &mut QueueState, item: Stored, reason: DeadReason, error: String, at: At) {
    if !planted(Bug::DeadKeepsKey) {
        queue.free_key(&item.message);
    }
    let Stored { message, readable, attempts, earlier, redriven, holder, mut room, .. } = item;
    let attempts = attempts.saturating_sub(planted(Bug::DeadCountsWrong).into());
    let error = if planted(Bug::DeadLosesError) { String::new() } else { cut_error(error) };
    room.refit(&message, &error);
    queue.steps.take();
    let number = queue.number();
    let body = match readable {
        true => DeadBody::Message(Box::new(message)),
        false => DeadBody::Raw(message.payload().clone()),
    };
    let id = DeadId::new(format!("{}-{number}", queue.serial));
    let mut letter = DeadLetter::new(id, queue.name.clone(), body, reason, queue.clock.wall(at));
    letter.error = error;
    letter.attempts = attempts;
    letter.total_attempts = earlier.saturating_add(attempts);
    letter.redriven = redriven;
    letter.consumer = holder.as_deref().map(str::to_owned);
    queue.dead.0.insert(number, Record { letter, room, died: at });
    drop_surplus_letters(queue);
}

pub(super) fn dead_letter_expired(queue: &mut QueueState, item: Stored, at: At) {
    if planted(Bug::ExpiredVanish) {
        queue.steps.take();
        return queue.free_key(&item.message);
    }
    dead_letter(queue, item, DeadReason::Expired, EXPIRED.into(), at);
}

/// After a death: no more letters than the queue keeps.
pub(super) fn drop_surplus_letters(queue: &mut QueueState) {
    while let Some(max) = queue.retention.max_len
        && queue.dead.len() as u64 > max
    {
        if planted(Bug::RetentionDropsNewest) {
            queue.dead.drop_newest();
        } else {
            queue.dead.drop_oldest();
        }
        queue.steps.take();
        queue.counts.dropped += u64::from(!planted(Bug::RetentionUncounted));
    }
}

/// With the time: no letter older than the queue keeps, and none of a queue that is deleted. Whether one was dropped.
pub(super) fn drop_old_letter(queue: &mut QueueState) -> bool {
    let Some(died) = queue.dead.oldest() else { return false };
    if queue.deleted {
        queue.dead.drop_oldest();
        return true;
    }
    let old = queue.retention.max_age.is_some_and(|age| died.plus(age) <= queue.now);
    if old {
        queue.dead.drop_oldest();
        queue.counts.dropped += u64::from(!planted(Bug::RetentionUncounted));
    }
    old
}
