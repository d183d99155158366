//! Verdicts and extensions, by receipt.

use polyqueue::{Extended, Receipt, Result, Settled, Verdict};

use crate::broker::queue_ref::QueueRef;
use crate::broker::state::ids::ConsumerId;
use crate::broker::state::queue_state::QueueState;
use crate::broker::state::settle;
use crate::settle::receipt;

/// # Errors
/// `Invalid` for a receipt that no memory broker made.
pub(crate) fn settle(
    queue: &QueueRef,
    state: &mut QueueState,
    consumer: ConsumerId,
    receipt: &Receipt,
    verdict: &Verdict,
) -> Result<Settled> {
    let (answer, busy) = settle::settle(state, consumer, receipt::read(receipt)?, verdict);
    queue.meter.settled(verdict, answer, busy);
    Ok(answer)
}

/// # Errors
/// `Invalid` for a receipt that no memory broker made.
pub(crate) fn extend(
    queue: &QueueRef,
    state: &mut QueueState,
    consumer: ConsumerId,
    receipt: &Receipt,
) -> Result<Extended> {
    let until = settle::extend(state, consumer, receipt::read(receipt)?);
    Ok(until.map_or(Extended::LeaseLost, |until| Extended::Until(queue.clock().instant(until))))
}
