//! What clients know of each message while faults happen: what was stored, what came when, what has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{Certainty, Delivery, Error, MessageId, Settled};
use tokio::time::Instant;

use super::arrival::Span;
use crate::{Env, Fail, Outcome, ensure};

/// What all clients of a case know together.
#[derive(Default)]
pub(super) struct Ledger(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    /// When the publish of each began.
    born: BTreeMap<MessageId, Instant>,
    /// When the broker's confirmation of each came.
    stored: BTreeMap<MessageId, Instant>,
    /// Those that the broker lost with everything else, and since when.
    lost: BTreeSet<MessageId>,
    wiping: bool,
    wiped: Option<Instant>,
    reappeared: Vec<MessageId>,
    /// The lane of each hand-out, with the birth of its message and when it came.
    came: Vec<(usize, Instant, Instant)>,
    /// Those that were surely moved: delayed, or handed out before.
    moved: BTreeSet<MessageId>,
    handed_out: BTreeSet<MessageId>,
    acked: BTreeMap<MessageId, Acked>,
    /// Those whose end is sure or possible.
    ended: BTreeSet<MessageId>,
    crashes: Vec<Instant>,
    /// From before each fault until after it was healed.
    faults: Vec<Span>,
    /// Hand-outs of what had been acked before they were asked for, and when they came.
    risen: Vec<(MessageId, Acked, Instant)>,
}

/// The last answer that a message was acked.
#[derive(Clone, Copy)]
struct Acked {
    at: Instant,
    /// Whether it was moved before.
    moved: bool,
}

impl Pages {
    /// Whether a fault may have left two copies of what was acked: one that came into a move, or two where the first of them made the
    /// client move it.
    fn may_have_been_two(&self, id: &MessageId, acked: Acked) -> bool {
        let Some(&born) = self.born.get(id) else { return false };
        let felt = |fault: &&Span| fault.inv <= acked.at && fault.ret + WORKS_WITHIN >= born;
        self.faults.iter().filter(felt).count() >= if acked.moved { 1 } else { 2 }
    }
}

impl Ledger {
    /// A publish of this message begins.
    pub(super) fn publishes(&self, id: &MessageId) {
        self.0.lock().born.insert(id.clone(), Instant::now());
    }

    /// The broker confirmed it.
    pub(super) fn stored(&self, id: &MessageId) {
        self.0.lock().stored.insert(id.clone(), Instant::now());
    }

    /// It waits at the broker before it is ready.
    pub(super) fn delays(&self, id: &MessageId) {
        self.0.lock().moved.insert(id.clone());
    }

    /// It was handed out on this lane by that receive.
    pub(super) fn came(&self, lane: usize, delivery: &Delivery, receive: Span) {
        let id = delivery.message.id();
        let mut pages = self.0.lock();
        if !pages.handed_out.insert(id.clone()) || delivery.attempt > 1 {
            pages.moved.insert(id.clone());
        }
        if let Some(&born) = pages.born.get(id) {
            pages.came.push((lane, born, receive.ret));
        }
        if pages.lost.contains(id) && pages.wiped.is_some_and(|wiped| receive.inv > wiped) {
            pages.reappeared.push(id.clone());
        }
        if let Some(&acked) = pages.acked.get(id).filter(|acked| acked.at < receive.inv) {
            pages.risen.push((id.clone(), acked, receive.ret));
        }
    }

    /// An ack of this hand-out was answered.
    pub(super) fn acked(&self, delivery: &Delivery, answer: &polyqueue::Result<Settled>) -> Outcome {
        let id = delivery.message.id();
        let mut pages = self.0.lock();
        match answer {
            Ok(Settled::Applied) => {
                let moved = pages.moved.contains(id);
                pages.acked.insert(id.clone(), Acked { at: Instant::now(), moved });
                pages.ended.insert(id.clone());
            }
            Ok(Settled::AlreadySettled) => drop(pages.ended.insert(id.clone())),
            Ok(Settled::LeaseLost) => {}
            Ok(Settled::Died) => return Err(format!("an ack of {id} was answered Died").into()),
            Err(error) => {
                passing(error)?;
                if error.certainty() == Certainty::Unknown {
                    pages.ended.insert(id.clone());
                }
            }
        }
        Ok(())
    }

    /// The broker's process died between these two.
    pub(super) fn crashed(&self, span: Span) {
        self.0.lock().crashes.extend([span.inv, span.ret]);
    }

    /// A fault lasted so long.
    pub(super) fn disturbed(&self, span: Span) {
        self.0.lock().faults.push(span);
    }

    /// When the first of those came on this lane whose publish began after `healed`.
    pub(super) fn first_since(&self, lane: usize, healed: Instant) -> Option<Instant> {
        let pages = self.0.lock();
        let fresh = pages.came.iter().filter(|(of, born, _)| *of == lane && *born >= healed);
        fresh.map(|(_, _, came)| *came).min()
    }

    /// How many hand-outs this lane has had.
    pub(super) fn hand_outs(&self, lane: usize) -> usize {
        self.0.lock().came.iter().filter(|(of, ..)| *of == lane).count()
    }

    /// Stored ones that may still have to come.
    pub(super) fn outstanding(&self) -> BTreeSet<MessageId> {
        let pages = self.0.lock();
        pages.stored.keys().filter(|id| !pages.ended.contains(*id)).cloned().collect()
    }

    /// Everything on the broker will be lost in a moment.
    pub(super) fn wipe_begins(&self) {
        let mut pages = self.0.lock();
        (pages.wiping, pages.wiped) = (true, None);
    }

    /// What a publish may be told while a fault lasts; right after everything was lost, also that its queue is not there.
    pub(super) fn publish_passes(&self, error: &Error) -> Result<(), Fail> {
        let pages = self.0.lock();
        let just_wiped = pages.wiping && pages.wiped.is_none_or(|wiped| wiped.elapsed() <= WORKS_WITHIN);
        match error {
            Error::NotFound { .. } if just_wiped => Ok(()),
            error => passing(error),
        }
    }

    /// Everything on the broker was lost between these two: nothing of before is missed, and none of it may come any more.
    pub(super) fn wiped(&self, span: Span) {
        let mut pages = self.0.lock();
        let Pages { stored, born, lost, wiped, .. } = &mut *pages;
        lost.extend(stored.iter().filter(|(_, stored)| **stored < span.inv).map(|(id, _)| id.clone()));
        stored.retain(|id, _| born.get(id).is_some_and(|born| *born > span.ret));
        *wiped = Some(span.ret);
    }

    /// The broker lost it, and yet it came.
    pub(super) fn reappeared(&self) -> Vec<MessageId> {
        self.0.lock().reappeared.clone()
    }

    /// No ack that a client was told of was undone, but by a crash that came within the window which the broker declares; and none of what
    /// was acked came again, but where a fault may have left two of it.
    pub(super) fn no_ack_was_undone(&self, env: &Env) -> Outcome {
        let pages = self.0.lock();
        for (id, acked, came) in &pages.risen {
            let undone = pages.crashes.iter().any(|crash| kept_too_late(env, acked.at, *crash));
            let copied = !env.info().atomic_moves && pages.may_have_been_two(id, *acked);
            ensure!(undone || copied, "{id} came {:?} after the answer that it was acked", *came - acked.at);
        }
        ensure!(!pages.acked.is_empty(), "nothing was acked: nothing was tried");
        Ok(())
    }
}

/// Whether a crash may have undone an ack.
fn kept_too_late(env: &Env, acked: Instant, crash: Instant) -> bool {
    let window = env.info().ack_window;
    acked <= crash && (crash - acked <= window || super::fault::kept_too_late(env, acked, crash))
}

/// What a client may be told while a fault lasts.
pub(crate) fn passing(error: &Error) -> Result<(), Fail> {
    ensure!(error.is_transient(), "not an error that passes: {error}");
    Ok(())
}

/// How soon everything works again after a fault is over.
pub(super) const WORKS_WITHIN: Duration = Duration::from_secs(5);
