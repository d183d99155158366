//! Admission: whether a message that is published may come in, and how it does.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{DeadReason, Error, Message, MessageId, Overflow};

use super::queue_state::QueueState;
use super::stored::Stored;
use super::{consume, dead};
use crate::mutants::{Bug, planted};

/// What the error of a dead letter says that made room for another message.
const OVERFLOW: &str = "dropped to make room";

/// What would become of a message.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It comes in.
    Open,
    /// This message has its dedup key.
    Duplicate(MessageId),
    /// There is no room, and it is to be told so.
    Full(Error),
    /// There is no room yet.
    Wait,
}

/// What would become of a message now. Those who wait are served first when that may make room.
pub(crate) fn look(queue: &mut QueueState, message: &Message) -> Admission {
    #[cfg(polyqueue_mutants)]
    queue.begin_window_anew(message);
    if let Some(first) = queue.holder_of(message) {
        return Admission::Duplicate(first.clone());
    }
    let Some(bound) = queue.bound.filter(|_| message.delay().is_zero()) else { return Admission::Open };
    if bound.overflow == Overflow::DropOldest || !is_full(queue, bound.max_len) {
        return Admission::Open;
    }
    match bound.overflow {
        Overflow::Block => Admission::Wait,
        _ => Admission::Full(Error::full(format!("queue {}", queue.name), bound.max_len)),
    }
}

/// Whether so many are ready that nobody waits for.
fn is_full(queue: &mut QueueState, max: u64) -> bool {
    queue.ready.len() as u64 >= max && {
        announce(queue);
        queue.ready.len() as u64 >= max
    }
}

/// Stores a message for which [`look`] said `Open`, of which those who wait are told by [`announce`].
pub(crate) fn enter(queue: &mut QueueState, mut item: Box<Stored>) {
    queue.counts.published += 1;
    queue.take_key(&item);
    item.live_from(queue.now);
    let delay = item.message.delay();
    if delay.is_zero() {
        queue.make_ready(item, queue.now);
        return drop_surplus(queue);
    }
    item.message = Arc::new(Arc::unwrap_or_clone(item.message).with_delay(Duration::ZERO));
    let due = queue.due(queue.now.plus(delay), delay);
    queue.ready_at(item, due);
}

/// One that comes in makes another go, where the queue is declared so.
fn drop_surplus(queue: &mut QueueState) {
    let Some(bound) = queue.bound.filter(|bound| bound.overflow == Overflow::DropOldest) else { return };
    if queue.ready.len() as u64 <= bound.max_len || !is_full(queue, bound.max_len + 1) {
        return;
    }
    if let Some(item) = queue.ready.pop_least() {
        queue.expiry.unwatch(&item);
        queue.counts.overflowed += 1;
        dead::died_by_itself(queue, item, DeadReason::Overflow, OVERFLOW.into(), queue.now);
    }
}

/// Serves those who wait with what came in.
pub(crate) fn announce(queue: &mut QueueState) {
    if !planted(Bug::PublishWakesNobody) {
        consume::serve(queue);
    }
}
