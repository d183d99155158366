//! H5, H11: attempts are counted, and end at their maximum.

use polyqueue::{MessageId, QueueName, Settled, Verdict};

use super::found::{Bounds, Found};
use super::view::{Given, Life, Line, View};

pub(super) fn check(view: &View<'_>, _: &Bounds, found: &mut Found) {
    for ((queue, id), life) in &view.lives {
        let line = view.line(queue);
        if life.single().is_some() && !line.blind {
            counted(view, (queue, id), life, line, found);
        }
        bounded((queue, id), life, line, found);
    }
}

/// H5: attempt = 1 + earlier hand-outs that no release undid. What a call took that never answered counts too.
fn counted(
    view: &View<'_>,
    (queue, id): (&QueueName, &MessageId),
    life: &Life<'_>,
    line: &Line<'_>,
    found: &mut Found,
) {
    let mut earlier = 0;
    for (at, hold) in life.holds.iter().enumerate() {
        let last = at.checked_sub(1).map(|before| life.holds[before].ret.seq).unwrap_or_default();
        if life.redrives.iter().any(|it| last < it.inv.seq && it.inv.seq < hold.ret.seq) {
            earlier = 0;
        }
        let unseen = line.hidden.iter().filter(|span| span.inv.seq < hold.ret.seq).count() as u32;
        let attempt = hold.handout.attempt;
        let too_many = attempt > earlier + 1 + unseen && !line.parks();
        if view.trusts(hold.ret) && (attempt < earlier + 1 || too_many) {
            let expected = earlier + 1;
            found.add("H5", format!("{id} came out of {queue} as attempt {attempt}, not {expected}"));
            return;
        }
        // What a hidden call took is part of the attempt that was just seen.
        earlier = attempt - u32::from(hold.released());
    }
}

/// Whether a retry may have come after the end of its message's time to live.
fn expired(life: &Life<'_>, given: &Given<'_>) -> bool {
    given.span.ret.is_some_and(|ret| life.may_expire_before(ret.at))
}

/// H11: never beyond the maximum, and dead exactly at the failure of the last.
fn bounded((queue, id): (&QueueName, &MessageId), life: &Life<'_>, line: &Line<'_>, found: &mut Found) {
    for hold in &life.holds {
        let (attempt, own) = (hold.handout.attempt, hold.handout.envelope.max_attempts);
        if line.largest_max(own).is_some_and(|max| attempt > max) {
            found.add("H11", format!("{id} came out of {queue} as attempt {attempt}, beyond its maximum"));
        }
        let Some(max) = line.agreed_max(own) else { continue };
        for given in hold.verdicts.iter().filter(|given| matches!(given.verdict, Verdict::Retry { .. })) {
            match given.answer {
                Some(Ok(Settled::Applied)) if attempt >= max => {
                    found.add("H11", format!("{id} of {queue} was retried at attempt {attempt} of {max}"));
                }
                Some(Ok(Settled::Died)) if attempt < max && !expired(life, given) => {
                    found.add("H11", format!("{id} of {queue} died of attempt {attempt} of {max}"));
                }
                _ => {}
            }
        }
    }
}
