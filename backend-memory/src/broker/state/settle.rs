//! Verdicts and extensions: fenced by the token of the hand-out.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::backend::cut_error;
use polyqueue::{DeadReason, Message, Priority, Settled, Verdict};

use super::ids::{ConsumerId, ReceiptParts};
use super::in_flight::Leased;
use super::queue_state::QueueState;
use super::{consume, dead};
use crate::broker::clock::At;
use crate::mutants::{Bug, planted};

/// The message as it goes back after a failure.
fn failed(message: Arc<Message>, error: &str) -> Message {
    let mut parts = Arc::unwrap_or_clone(message).into_parts();
    parts.retries = parts.retries.saturating_add(1);
    parts.last_error = Some(cut_error(error.to_owned()));
    if planted(Bug::PriorityLost) {
        parts.priority = Priority::DEFAULT;
    }
    parts.into()
}

/// Applies a verdict of a consumer; also says how long the message was in its hands.
pub(crate) fn settle(
    queue: &mut QueueState,
    consumer: ConsumerId,
    receipt_parts: ReceiptParts,
    verdict: &Verdict,
) -> (Settled, Duration) {
    let foreign = receipt_parts.consumer != consumer && !planted(Bug::ForeignReceipt);
    if foreign || queue.is_deleted() {
        return (Settled::LeaseLost, Duration::ZERO);
    }
    queue.steps.take();
    let held = queue.in_flight.release(receipt_parts.token);
    #[cfg(polyqueue_mutants)]
    let held = held.or_else(|| seize(queue, receipt_parts));
    let Some(held) = held else {
        return (queue.in_flight.missing(receipt_parts, queue.now), Duration::ZERO);
    };
    if planted(Bug::AckKeeps) && *verdict == Verdict::Ack {
        queue.in_flight.hold(receipt_parts.token, held);
        return (Settled::Applied, Duration::ZERO);
    }
    let busy = queue.now.since(held.since);
    queue.in_flight.remember(receipt_parts.token, &held);
    queue.free_capacity(held.consumer);
    let answer = apply(queue, held, verdict);
    queue.serves = true;
    (answer, busy)
}

fn apply(queue: &mut QueueState, held: Leased, verdict: &Verdict) -> Settled {
    match verdict {
        Verdict::Ack => {
            queue.free_acked_key(&held.item.message);
            queue.removed.messages.push(held.item);
        }
        Verdict::Retry { after, error } => return retry(queue, held, *after, error),
        Verdict::Release { after } => release(queue, held, *after),
        Verdict::DeadLetter { reason, error } => {
            dead::dead_letter(queue, held.item, (*reason).into(), error.clone().into(), queue.now);
            return Settled::Died;
        }
    }
    Settled::Applied
}

fn retry(queue: &mut QueueState, held: Leased, after: Duration, error: &str) -> Settled {
    let Leased { mut item, max, since, .. } = held;
    if consume::is_used_up(item.attempts, max) {
        dead::dead_letter(queue, item, DeadReason::MaxAttempts, error.to_owned().into(), queue.now);
        return Settled::Died;
    }
    if item.is_expired(queue.now) {
        dead::dead_letter_expired(queue, item, queue.now);
        return Settled::Died;
    }
    item.message = failed(item.message, error).into();
    item.failed_under(max);
    item.room.refit(&item.message);
    if planted(Bug::RetryFree) {
        item.attempts -= 1;
    }
    if planted(Bug::RetryFreesKey) {
        queue.free_key(&item.message);
    }
    if planted(Bug::RetryRenewsTtl) {
        item.live_from(queue.now);
    }
    let after = if planted(Bug::BackoffIgnored) { Duration::ZERO } else { after };
    let from = if planted(Bug::RetryFromHandOut) { since } else { queue.now };
    queue.ready_at(item, from.plus(after));
    Settled::Applied
}

fn release(queue: &mut QueueState, held: Leased, after: Duration) {
    let mut item = held.item;
    if !planted(Bug::ReleaseBurns) {
        item.attempts -= 1;
    }
    if item.is_expired(queue.now) {
        return dead::dead_letter_expired(queue, item, queue.now);
    }
    queue.ready_at(item, queue.now.plus(after));
}

/// A new full lease from now; its end, or `None` when the message is not theirs any more.
pub(crate) fn extend(
    queue: &mut QueueState,
    consumer: ConsumerId,
    receipt_parts: ReceiptParts,
) -> Option<At> {
    if receipt_parts.consumer != consumer && !planted(Bug::ForeignReceipt) {
        return None;
    }
    queue.steps.take();
    #[cfg(polyqueue_mutants)]
    revive(queue, receipt_parts);
    let until = queue.now.plus(queue.consumers.get(&consumer)?.lease);
    queue.in_flight.extend(receipt_parts.token, until).then_some(until)
}

/// Takes a message away from whoever has it now, by a receipt that is no longer good.
#[cfg(polyqueue_mutants)]
fn seize(queue: &mut QueueState, receipt_parts: ReceiptParts) -> Option<Leased> {
    if planted(Bug::NoFencing) {
        let token = queue.in_flight.holding(|item| item.past.contains(&receipt_parts.token))?;
        return queue.in_flight.release(token);
    }
    let late = planted(Bug::LateVerdict) && receipt_parts.until <= queue.now;
    late.then(|| pick_up(queue, receipt_parts)).flatten()
}

#[cfg(polyqueue_mutants)]
fn revive(queue: &mut QueueState, receipt_parts: ReceiptParts) {
    if planted(Bug::LateExtend)
        && receipt_parts.until <= queue.now
        && let Some(held) = pick_up(queue, receipt_parts)
    {
        queue.in_flight.hold(receipt_parts.token, held);
    }
}

#[cfg(polyqueue_mutants)]
fn pick_up(queue: &mut QueueState, receipt_parts: ReceiptParts) -> Option<Leased> {
    let item = queue.ready.snatch(|item| item.past.last() == Some(&receipt_parts.token))?;
    let max = item.message.max_attempts().unwrap_or(polyqueue::DEFAULT_MAX_ATTEMPTS);
    Some(Leased::new(item, receipt_parts.consumer, max, queue.now, queue.now))
}
