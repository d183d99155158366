//! Handing out: to a receive that comes, or to the oldest that waits.

use std::num::NonZeroU32;

use polyqueue::{DeadReason, Subscription};

use super::consumers::ConsumerState;
use super::dead;
use super::ids::{ConsumerId, HandedOut, ReceiptParts, Token, WaiterId};
use super::in_flight::Leased;
use super::pending::{PendingReceive, WaitOutcome};
use super::queue_state::QueueState;
use super::stored::Stored;
use crate::broker::clock::At;
#[cfg(polyqueue_mutants)]
use crate::mutants::rare;
use crate::mutants::{Bug, planted};

/// What the error of a dead letter says that was no message.
const UNREADABLE: &str = "these bytes are no message";

/// So many messages a receive brings at most: one that is given up gives them all back, under one hold of the lock.
const MOST_AT_ONCE: usize = 400;

/// What a receive is told when it comes.
#[derive(Debug)]
pub(crate) enum ReceiveOutcome {
    /// This much, now.
    HandedOut(Vec<HandedOut>),
    /// Nothing yet.
    Wait(WaiterId),
    /// Nothing yet, and no step is left to look further.
    GoOn,
}

/// The message's own maximum, or else the greatest of those under which it was tried, this consumer's included.
fn max_attempts(item: &Stored, consumer: &ConsumerState) -> NonZeroU32 {
    match item.message.max_attempts() {
        Some(own) if !planted(Bug::MessageMaxIgnored) => own,
        _ if planted(Bug::LesserMaximumBuries) => consumer.max_attempts,
        _ => NonZeroU32::new(item.allowed)
            .map_or(consumer.max_attempts, |allowed| allowed.max(consumer.max_attempts)),
    }
}

/// Whether no attempt is left.
pub(super) fn is_used_up(attempts: u32, max: NonZeroU32) -> bool {
    if planted(Bug::AttemptTooMany) {
        return attempts > max.get();
    }
    if planted(Bug::BuriedEarly) {
        return attempts + 1 >= max.get();
    }
    attempts >= max.get()
}

/// Up to `max` messages now; a waiter when there is none and the receive wants to wait.
pub(crate) fn begin_receive(
    queue: &mut QueueState,
    consumer: ConsumerId,
    max: usize,
    wait: bool,
) -> ReceiveOutcome {
    if planted(Bug::PollTakesDelayed) && !wait && queue.ready.is_empty() {
        queue.promote_first();
    }
    let handed = take(queue, consumer, max);
    if handed.is_empty() && !queue.steps.are_left() {
        return ReceiveOutcome::GoOn;
    }
    match queue.consumers.get_mut(&consumer) {
        Some(known) if handed.is_empty() && wait && !known.closed => {
            let waiter = queue.waiting.enter(PendingReceive { consumer, max });
            known.waiters.push_back(waiter);
            known.offer_oldest(&mut queue.waiting);
            ReceiveOutcome::Wait(waiter)
        }
        _ => ReceiveOutcome::HandedOut(handed),
    }
}

/// The answer to a receive that waits; `None` while there is none.
pub(crate) fn fetch(queue: &mut QueueState, waiter: WaiterId) -> Option<WaitOutcome> {
    queue.waiting.fetch(waiter)
}

/// Until when a receive that waits may sleep, unless it is woken. Only the oldest keeps the time.
pub(crate) fn keep_time(queue: &mut QueueState, waiter: WaiterId) -> Option<At> {
    let due = queue.next_due();
    queue.waiting.keep_time(waiter, due)
}

/// A receive gave up. What it was handed and never fetched goes back to where it was, its attempt unburned.
pub(crate) fn cancel(queue: &mut QueueState, waiter: WaiterId) {
    if let Some(begin_receive) = queue.waiting.leave(waiter) {
        queue.drop_waiter(begin_receive.consumer, waiter);
    }
    let Some(WaitOutcome::HandedOut(handed)) = queue.waiting.fetch(waiter) else { return };
    for handed in handed {
        let Some(mut held) = queue.in_flight.release(handed.receipt_parts.token) else { continue };
        held.item.attempts -= 1;
        queue.free_capacity(held.consumer);
        if planted(Bug::DropLoses) {
            queue.removed.messages.push(held.item);
            continue;
        }
        put_back(queue, held.item);
    }
    serve(queue);
}

fn put_back(queue: &mut QueueState, item: Box<Stored>) {
    if item.is_expired(queue.now) {
        return dead::dead_letter_expired(queue, item, queue.now);
    }
    queue.put_ready(item);
}

/// Serves those who wait, oldest first, as long as there is something for them: not before all that is due is applied,
/// and as far as there are steps.
pub(super) fn serve(queue: &mut QueueState) {
    while !queue.behind
        && !queue.ready.is_empty()
        && let Some((waiter, begin_receive)) = queue.waiting.next_open()
    {
        if !queue.steps.are_left() {
            queue.behind = true;
            break;
        }
        let handed = take(queue, begin_receive.consumer, begin_receive.max);
        if !handed.is_empty() {
            queue.drop_waiter(begin_receive.consumer, waiter);
            queue.waiting.answer(waiter, WaitOutcome::HandedOut(handed));
        }
    }
}

/// Up to `max` messages, as long as the consumer has room for them.
fn take(queue: &mut QueueState, id: ConsumerId, max: usize) -> Vec<HandedOut> {
    // Out of the map, so that the rest of the queue can be changed meanwhile.
    let Some(mut consumer) = queue.consumers.remove(&id) else { return Vec::new() };
    let max = if consumer.closed { 0 } else { max.min(consumer.capacity()).min(MOST_AT_ONCE) };
    let max = max.saturating_add(usize::from(planted(Bug::OverCap) && max > 0));
    let mut handed = Vec::with_capacity(max.min(queue.ready.len()));
    while handed.len() < max
        && queue.steps.are_left()
        && let Some(item) = queue.ready.pop()
    {
        queue.expiry.unwatch(&item);
        handed.extend(hand_out(queue, item, id, &consumer));
    }
    consumer.held += handed.len();
    consumer.offer_oldest(&mut queue.waiting);
    queue.consumers.insert(id, consumer);
    if planted(Bug::BatchReversed) {
        handed.reverse();
    }
    handed
}

/// `None` when it dies instead: it is no message.
fn hand_out(
    queue: &mut QueueState,
    mut item: Box<Stored>,
    id: ConsumerId,
    consumer: &ConsumerState,
) -> Option<HandedOut> {
    if !item.readable {
        dead::died_by_itself(queue, item, DeadReason::Undecodable, UNREADABLE.into(), queue.now);
        return None;
    }
    let max = max_attempts(&item, consumer);
    #[cfg(polyqueue_mutants)]
    if item.attempts > 0 && planted(Bug::LesserMaximumBuries) && is_used_up(item.attempts, max) {
        let error = item.message.last_error().unwrap_or_default().to_owned();
        dead::died_by_itself(queue, item, DeadReason::MaxAttempts, error.into(), queue.now);
        return None;
    }
    queue.steps.take();
    let token = Token(queue.number());
    #[cfg(polyqueue_mutants)]
    hand_out_wrongly(queue, &mut item, token);
    item.attempts += 1;
    item.holder = Some(consumer.name.clone());
    let until = queue.now.plus(consumer.lease);
    let receipt_parts = ReceiptParts { consumer: id, token, until };
    let (message, attempt) = (item.message.clone(), item.attempts);
    let handed = HandedOut { message, attempt, max_attempts: max.get(), receipt_parts };
    queue.in_flight.hold(token, Leased::new(item, id, max, queue.now, until));
    Some(handed)
}

#[cfg(polyqueue_mutants)]
fn hand_out_wrongly(queue: &mut QueueState, item: &mut Stored, token: Token) {
    item.past.push(token);
    if planted(Bug::RarelyTwice)
        && rare(token.0)
        && let Ok(room) = item.room.another(&item.message)
    {
        let twin = Stored::new(item.message.clone(), room);
        queue.make_ready(twin, queue.now);
    }
}

/// A consumer is closed: its receives end, and later ones bring nothing. Ends as many as there are steps for; whether all.
pub(crate) fn close_consumer(queue: &mut QueueState, id: ConsumerId) -> bool {
    if let Some(consumer) = queue.consumers.get_mut(&id) {
        consumer.closed = true;
    }
    end_waits(queue, id, || WaitOutcome::HandedOut(Vec::new()))
}

/// Ends the waits of one consumer, as many as there are steps for; whether all.
pub(crate) fn end_waits(queue: &mut QueueState, id: ConsumerId, answer: impl Fn() -> WaitOutcome) -> bool {
    let Some(consumer) = queue.consumers.get_mut(&id) else { return true };
    while queue.steps.are_left()
        && let Some(waiter) = consumer.waiters.pop_front()
    {
        queue.waiting.answer(waiter, answer());
        queue.steps.take();
    }
    consumer.offer_oldest(&mut queue.waiting);
    consumer.waiters.is_empty()
}

/// A consumer comes.
pub(crate) fn join(queue: &mut QueueState, id: ConsumerId, subscription: &Subscription) {
    queue.consumers.insert(id, ConsumerState::new(subscription));
}

/// A consumer goes when its receives have ended, of which it ends as many as there are steps for; whether it is gone. The
/// leases of what it holds run on to their end.
pub(crate) fn leave(queue: &mut QueueState, id: ConsumerId) -> bool {
    let ended = close_consumer(queue, id);
    if ended {
        queue.consumers.remove(&id);
    }
    ended
}
