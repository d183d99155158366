//! What becomes due by itself, and what is left to do when a call is over.

use polyqueue::DeadReason;

use super::expiry::Location;
use super::ids::Token;
use super::ids::WaiterId;
use super::queue_state::{Counts, QueueState};
use super::removed::Removed;
use super::steps::MOST;
use super::{consume, dead};
use crate::broker::clock::At;
use crate::mutants::{Bug, planted};

/// What the error of a dead letter says when the last lease ended without a verdict.
const LEASE_ENDED: &str = "lease expired";

/// What becomes due by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Due,
    LeaseEnds,
    Expires,
}

/// What is to be done when a call is over.
#[derive(Debug)]
pub(crate) struct Effects {
    /// Calls to wake.
    pub(crate) woken: Vec<WaiterId>,
    /// What is to be dropped.
    pub(crate) removed: Removed,
    /// What is to be counted.
    pub(crate) counts: Counts,
}

/// Moves the time on and applies what has become due by then, in the order of its time; at one instant in the order
/// in which it was begun. What there are no steps for is left: then the queue is not caught up. The lock is held together
/// with those of so many queues, this one among them.
pub(crate) fn advance(queue: &mut QueueState, now: At, sharers: usize) {
    queue.steps.begin(sharers);
    #[cfg(polyqueue_mutants)]
    {
        queue.before = queue.now;
    }
    // Two runtimes with clocks of their own may share a broker: time never goes back.
    queue.now = queue.now.max(now);
    queue.behind = false;
    while apply_next(queue) {
        if !queue.steps.are_left() {
            queue.behind = true;
            break;
        }
    }
    consume::serve(queue);
    queue.steps.begin_call();
}

/// Applies one thing that is due; `false` when nothing is.
fn apply_next(queue: &mut QueueState) -> bool {
    match next_event(queue).filter(|event| event.0 <= queue.now) {
        Some((_, _, Event::Due)) => queue.promote_first(),
        Some((at, number, Event::LeaseEnds)) => end_lease(queue, at, Token(number)),
        Some((_, _, Event::Expires)) => expire_first(queue),
        None => return forget_next(queue),
    }
    true
}

/// Lets go of one thing that was remembered long enough; `false` when there is none.
fn forget_next(queue: &mut QueueState) -> bool {
    let forgot = if let Some(item) = queue.purged.pop() {
        queue.free_key(&item.message);
        queue.removed.messages.push(item);
        true
    } else {
        queue.in_flight.forget_first(queue.now) || queue.forget_key() || dead::drop_old_letter(queue)
    };
    if forgot {
        queue.steps.take();
    }
    forgot
}

fn next_event(queue: &QueueState) -> Option<(At, u64, Event)> {
    let due = queue.delayed.first().map(|(at, number)| (at, number, Event::Due));
    let end = queue.in_flight.next_end().map(|(at, token)| (at, token.0, Event::LeaseEnds));
    let expires = queue.expiry.next().map(|(at, number)| (at, number, Event::Expires));
    due.into_iter().chain(end).chain(expires).min()
}

fn end_lease(queue: &mut QueueState, at: At, token: Token) {
    let Some(held) = queue.in_flight.release(token) else { return };
    queue.free_capacity(held.consumer);
    let mut item = held.item;
    if planted(Bug::ExpiryFree) {
        item.attempts -= 1;
    }
    if consume::is_used_up(item.attempts, held.max) {
        return dead::died_by_itself(queue, item, DeadReason::MaxAttempts, LEASE_ENDED.into(), at);
    }
    if item.is_expired(at) {
        return dead::dead_letter_expired(queue, item, at);
    }
    item.failed_under(held.max);
    if planted(Bug::ExpiredFirst) {
        item.ready_since = at;
        queue.steps.take();
        return queue.ready.put(item);
    }
    queue.make_ready(item, at);
}

/// The next one that expires does.
pub(super) fn expire_first(queue: &mut QueueState) {
    let Some(((at, place), spot)) = queue.expiry.0.pop_first() else { return };
    let item = match spot {
        Location::Ready(priority) => queue.ready.remove(priority, place),
        Location::Delayed(due) => queue.delayed.remove((due, place)),
    };
    if let Some(item) = item {
        dead::dead_letter_expired(queue, item, at);
    }
}

/// What is to be done when a call is over.
pub(crate) fn effects(queue: &mut QueueState) -> Effects {
    if std::mem::take(&mut queue.serves) {
        consume::serve(queue);
    }
    debug_assert!(queue.steps.taken() <= MOST, "{} steps under one lock", queue.steps.taken());
    let due = queue.next_due();
    queue.waiting.check_timer(due);
    let mut woken = queue.waiting.woken();
    woken.extend(queue.woken_publishes());
    let (removed, counts) = (std::mem::take(&mut queue.removed), std::mem::take(&mut queue.counts));
    Effects { woken, removed, counts }
}
