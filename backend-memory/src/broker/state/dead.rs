//! Deaths, and how many dead letters are kept: those that are too many or too old are dropped, the oldest first, and counted.

use std::borrow::Cow;

use polyqueue::backend::cut_error;
use polyqueue::{DeadReason, Event};

use super::dead_letters::Record;
use super::queue_state::QueueState;
use super::stored::Stored;
use crate::broker::clock::At;
use crate::mutants::{Bug, planted};

/// What the error of a dead letter says whose time to live had ended.
const EXPIRED: &str = "expired";

/// Makes a dead letter of a message that is nowhere else.
pub(super) fn dead_letter(
    queue: &mut QueueState,
    mut item: Box<Stored>,
    reason: DeadReason,
    error: Cow<'static, str>,
    died: At,
) {
    if !planted(Bug::DeadKeepsKey) {
        queue.free_key(&item.message);
    }
    item.attempts = item.attempts.saturating_sub(planted(Bug::DeadCountsWrong).into());
    let error = match error {
        _ if planted(Bug::DeadLosesError) => Cow::Borrowed(""),
        Cow::Owned(text) => Cow::Owned(cut_error(text)),
        Cow::Borrowed(ours) => Cow::Borrowed(ours),
    };
    item.room.grow(error.len());
    queue.steps.take();
    let number = queue.number();
    queue.dead.insert(number, Record { item, reason, error, died });
    drop_surplus_letters(queue);
}

/// The same where no verdict asked for it: whoever listens is told.
pub(super) fn died_by_itself(
    queue: &mut QueueState,
    item: Box<Stored>,
    reason: DeadReason,
    error: Cow<'static, str>,
    died: At,
) {
    match reason {
        DeadReason::Undecodable => {
            queue.events.send(Event::SetAside { queue: queue.name.clone(), detail: error.to_string() });
        }
        _ => queue.events.send_dead_letter(&queue.name, item.message.id(), reason),
    }
    dead_letter(queue, item, reason, error, died);
}

pub(super) fn dead_letter_expired(queue: &mut QueueState, item: Box<Stored>, at: At) {
    if planted(Bug::ExpiredVanish) {
        queue.steps.take();
        return queue.free_key(&item.message);
    }
    died_by_itself(queue, item, DeadReason::Expired, EXPIRED.into(), at);
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
