//! H6, H12: a message is the same at every hand-out and in its dead letter, but for the fields that we own.

use polyqueue::backend::cut_error;
use polyqueue::{DeadReason, MessageId, QueueName, Refusal, Verdict};

use super::found::{Bounds, Found};
use super::view::{Hold, Life, Line, Seen, View};
use crate::history::Envelope;

pub(super) fn check(view: &View<'_>, _: &Bounds, found: &mut Found) {
    for ((queue, id), life) in &view.lives {
        let of = (*queue, *id);
        for hold in &life.holds {
            if !known(life, &hold.handout.envelope) {
                found.add("H6", format!("{id} came out of {queue} changed: {:?}", hold.handout.envelope));
            }
        }
        let times = life.holds.iter().map(|hold| hold.handout.envelope.published_ms);
        if life.single().is_some() && times.clone().any(|time| Some(time) != times.clone().next()) {
            found.add("H6", format!("{id} of {queue} was published at a time that changes"));
        }
        if life.single().is_some_and(|publish| publish.sent.fresh) {
            own_fields(view, of, life, found);
        }
        for seen in &life.deaths {
            dead_letter(view, of, life, seen, found);
        }
    }
}

/// Whether this is what one of the publishes of its id sent.
fn known(life: &Life<'_>, envelope: &Envelope) -> bool {
    let mut sent = life.publishes.iter().filter(|publish| publish.fate.may_be_stored()).peekable();
    sent.peek().is_none() || sent.any(|publish| envelope.came_from(&publish.sent.envelope))
}

/// `retries` counts the retries, `last_error` is the last one's.
fn own_fields(view: &View<'_>, (queue, id): (&QueueName, &MessageId), life: &Life<'_>, found: &mut Found) {
    let mut retries = 0;
    let mut before: Option<&Hold<'_>> = None;
    for hold in &life.holds {
        if !view.trusts(hold.ret) || life.redriven_before(hold.ret) || view.line(queue).blind {
            return;
        }
        let error = before.and_then(|it| it.settled()).and_then(|given| match given.verdict {
            Verdict::Retry { error, .. } => Some(cut_error(error.clone())),
            _ => None,
        });
        retries += u32::from(error.is_some());
        if hold.handout.retries != retries {
            let given = hold.handout.retries;
            found.add("H6", format!("{id} came out of {queue} with retries {given}, not {retries}"));
        }
        let shown = hold.handout.last_error.clone().unwrap_or_default();
        if error.is_some_and(|error| error != shown) {
            found.add("H6", format!("{id} came out of {queue} without the error that sent it back"));
        }
        before = Some(hold);
    }
}

/// H12: the record says what was sent and why it died.
fn dead_letter(
    view: &View<'_>,
    (queue, id): (&QueueName, &MessageId),
    life: &Life<'_>,
    seen: &Seen<'_>,
    found: &mut Found,
) {
    let dead_letter = &seen.dead.record;
    if dead_letter.queue != *queue {
        found.add("H12", format!("{id} is a dead letter of {queue} that says {}", dead_letter.queue));
    }
    if seen.dead.envelope.as_ref().is_some_and(|envelope| !known(life, envelope)) {
        found.add("H12", format!("{id} is a changed dead letter of {queue}: {:?}", seen.dead.envelope));
    }
    let line = view.line(queue);
    let plain = !line.blind && !line.parks() && life.redrives.is_empty() && !view.outsiders;
    if life.single().is_none() || !view.trusts(seen.inv) || !plain {
        return;
    }
    if dead_letter.redriven != 0 || dead_letter.total_attempts != dead_letter.attempts {
        let text = format!("{id}, dead in {queue}, was never redriven, but its record says so");
        found.add("H12", text);
    }
    reasoned((queue, id), life, line, seen, found);
    last_words((queue, id), life, seen, found);
}

fn reasoned(
    (queue, id): (&QueueName, &MessageId),
    life: &Life<'_>,
    line: &Line<'_>,
    seen: &Seen<'_>,
    found: &mut Found,
) {
    let dead_letter = &seen.dead.record;
    let rejected = |refusal: Refusal| {
        let mut verdicts = life.holds.iter().flat_map(|hold| &hold.verdicts);
        verdicts.any(|given| {
            given.may_have()
                && matches!(given.verdict, Verdict::DeadLetter { reason, .. } if *reason == refusal)
        })
    };
    let good = match dead_letter.reason {
        DeadReason::Rejected => rejected(Refusal::Rejected),
        DeadReason::Undecodable => rejected(Refusal::Undecodable),
        DeadReason::MaxAttempts => {
            let own = seen.dead.envelope.as_ref().and_then(|envelope| envelope.max_attempts);
            line.agreed_max(own).is_none_or(|max| dead_letter.attempts == max)
        }
        DeadReason::Expired => life.may_expire_before(seen.ret.at),
        DeadReason::Overflow => line.overflows(),
        _ => true,
    };
    if !good {
        let (reason, attempts) = (dead_letter.reason, dead_letter.attempts);
        found.add("H12", format!("{id} died in {queue} of {reason} at attempt {attempts}, for no reason"));
    }
    let leased = |hold: &&Hold<'_>| !hold.released() && hold.inv.seq < seen.inv.seq;
    let most = life.holds.iter().filter(leased).count() + line.hidden.len();
    let least = life.holds.iter().filter(leased).filter(|hold| hold.ret.seq < seen.inv.seq).count();
    if !(least..=most).contains(&(dead_letter.attempts as usize)) {
        let text = format!("{id}, dead in {queue}, says {} attempts, it had {least}", dead_letter.attempts);
        found.add("H12", text);
    }
}

/// The record keeps the error of the verdict that dead-lettered it.
fn last_words((queue, id): (&QueueName, &MessageId), life: &Life<'_>, seen: &Seen<'_>, found: &mut Found) {
    let last = life.holds.iter().flat_map(|hold| &hold.verdicts).rfind(|given| given.took_effect());
    let Some(given) = last.filter(|given| given.is_last() && given.span.before(seen.inv)) else { return };
    if seen.dead.record.reason == DeadReason::Expired {
        return;
    }
    let (Verdict::Retry { error, .. } | Verdict::DeadLetter { error, .. }) = given.verdict else { return };
    if seen.dead.record.error != cut_error(error.clone()) {
        let shown = &seen.dead.record.error;
        found.add("H12", format!("{id} died in {queue} of {error:?}, its record says {shown:?}"));
    }
}
