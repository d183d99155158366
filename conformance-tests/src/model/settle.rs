//! What verdicts must answer, and what they do.

use std::time::Duration;

use polyqueue::{DeadReason, DedupUntil, Settled, Verdict};

use super::coverage::Coverage;
use super::message::{Lease, Place, Span, Window, name};
use super::standing::{Standing, standing};
use super::state::{Judgement, Model};

/// Judges the answer to a verdict, and applies it.
pub(super) fn judge(
    model: &mut Model,
    call: Span,
    consumer: usize,
    delivery: usize,
    verdict: &Verdict,
    answer: Settled,
) -> Judgement {
    let message = model.deliveries[delivery].message;
    let effect = effect(model, call, message, verdict);
    let elsewhere = model.deliveries[delivery].consumer != consumer;
    let (allowed, ended): (&[Settled], Option<Lease>) = match standing(model, delivery, consumer, call) {
        Standing::Leased(_) => (&[effect], None),
        Standing::Ending(lease) => (&[effect, Settled::LeaseLost], Some(lease)),
        Standing::Settled { remembered: true } => (&[Settled::AlreadySettled], None),
        Standing::Settled { remembered: false } => (&[Settled::AlreadySettled, Settled::LeaseLost], None),
        Standing::Lost => (&[Settled::LeaseLost], None),
    };
    if !allowed.contains(&answer) {
        let said = if elsewhere { "at the other consumer " } else { "" };
        return Err(format!("{verdict:?} for {} {said}answered {answer:?}, not {allowed:?}", name(message)));
    }
    model.coverage.note_if(elsewhere, "receipt used elsewhere");
    match answer {
        Settled::Applied | Settled::Died => apply(model, call, delivery, verdict, effect),
        Settled::AlreadySettled => model.coverage.note("second verdict given"),
        Settled::LeaseLost => {
            model.coverage.note_if(!elsewhere, "stale receipt used");
            if let Some(lease) = ended {
                // A client may know the end of its lease, and say so, before the broker has noticed it.
                let by = lease.by.min(call.ret + model.rules.late);
                let ended = Lease { over: call.ret, by, ..lease };
                model.messages[message].place = Place::InFlight(ended);
            }
        }
    }
    Ok(())
}

/// What the verdict answers when its holder still has the message.
fn effect(model: &Model, call: Span, message: usize, verdict: &Verdict) -> Settled {
    let message = &model.messages[message];
    match verdict {
        Verdict::DeadLetter { .. } => Settled::Died,
        Verdict::Retry { .. } if message.expires_by(call.inv) || message.attempts >= message.max => {
            Settled::Died
        }
        _ => Settled::Applied,
    }
}

fn apply(model: &mut Model, call: Span, delivery: usize, verdict: &Verdict, effect: Settled) {
    model.deliveries[delivery].settled = true;
    let message = model.deliveries[delivery].message;
    let died = Window { from: call.inv, by: call.ret };
    match verdict {
        Verdict::Ack => {
            model.done.acked += 1;
            model.messages[message].place = Place::Gone;
            if model.rules.dedup.until == DedupUntil::Ack {
                let freed = model.free(message);
                model.coverage.note_if(freed, "key freed by an ack");
            }
        }
        Verdict::Release { after } => {
            model.done.released += 1;
            model.messages[message].attempts -= 1;
            if model.messages[message].expires_by(call.inv) {
                model.coverage.note("released past its end");
                return model.dead_letter(message, &[DeadReason::Expired], None, died);
            }
            model.goes_back(message, call, *after);
        }
        Verdict::Retry { error, .. } if effect == Settled::Died => {
            model.done.died += 1;
            if model.messages[message].expires_by(call.inv) {
                model.coverage.note("retried past its end");
                let last = model.messages[message].attempts >= model.messages[message].max;
                let reasons = [DeadReason::Expired, DeadReason::MaxAttempts];
                return model.dead_letter(message, &reasons[..1 + usize::from(last)], None, died);
            }
            let own = model.messages[message].sent.max_attempts().is_some();
            model.coverage.note(if own { "message's own maximum reached" } else { "last attempt failed" });
            model.dead_letter(message, &[DeadReason::MaxAttempts], Some(error.clone()), died);
        }
        Verdict::Retry { after, error } => {
            model.done.retried += 1;
            model.messages[message].retries += 1;
            model.messages[message].last_error = Some(error.clone());
            model.goes_back(message, call, *after);
        }
        Verdict::DeadLetter { reason, error } => {
            model.done.died += 1;
            model.coverage.note("rejected");
            model.dead_letter(message, &[(*reason).into()], Some(error.clone()), died);
        }
    }
}

/// The wait that the policy has for a failure at this attempt: 1T, then 2T for ever, although thrice as much were due.
pub(super) fn policy_wait(coverage: &mut Coverage, attempt: u32, tick: Duration) -> Duration {
    coverage.note_if(attempt > 1, "wait at the cap of the policy");
    if attempt == 1 { tick } else { tick * 2 }
}
