//! H1 lost, H2 unsettled, H15 unexpected, H-DEF: what was published against what came out.

use polyqueue::{MessageId, QueueName, Settled, Verdict};

use super::found::{Bounds, Found};
use super::view::{Fate, Life, Line, View};

pub(super) fn check(view: &View<'_>, _: &Bounds, found: &mut Found) {
    for ((queue, id), life) in &view.lives {
        let line = view.line(queue);
        unexpected(view, (queue, id), life, found);
        ghost(view, (queue, id), life, line, found);
        lost((queue, id), life, line, found);
    }
}

/// Nothing comes out that was not put in.
fn unexpected(view: &View<'_>, (queue, id): (&QueueName, &MessageId), life: &Life<'_>, found: &mut Found) {
    let came_out = !life.holds.is_empty() || !life.deaths.is_empty();
    if !came_out || view.outsiders {
        return;
    }
    if life.publishes.is_empty() {
        found.add("H15", format!("{id} came out of {queue}, which nobody published there"));
    } else if !life.publishes.iter().any(|publish| publish.fate.may_be_stored()) {
        found.add("H-DEF", format!("{id} came out of {queue}, although none of it was stored for certain"));
    }
}

/// What was in a queue goes with it.
fn ghost(
    view: &View<'_>,
    (queue, id): (&QueueName, &MessageId),
    life: &Life<'_>,
    line: &Line<'_>,
    found: &mut Found,
) {
    if view.outsiders || life.publishes.is_empty() {
        return;
    }
    for hold in life.holds.iter().filter(|hold| view.trusts(hold.ret)) {
        let gone = line.deletes.iter().any(|delete| {
            delete.before(hold.inv) && life.publishes.iter().all(|publish| publish.span.before(delete.inv))
        });
        if gone {
            found.add("H15", format!("{id} came out of {queue}, published before the queue was deleted"));
        }
    }
}

/// In a queue that was drained every stored message has come out, and has been brought to its end.
fn lost((queue, id): (&QueueName, &MessageId), life: &Life<'_>, line: &Line<'_>, found: &mut Found) {
    let Some(drained) = line.drained else { return };
    let stored = life.publishes.iter().any(|it| it.fate == Fate::Stored && it.span.before(drained));
    let elsewhere = life.moved_before(drained) || line.overflows() || life.may_expire_before(drained.at);
    if !stored || line.emptied_before(drained) || line.blind || (elsewhere && life.deaths.is_empty()) {
        return;
    }
    if life.holds.is_empty() && life.deaths.is_empty() {
        found.add("H1", format!("{id} was stored in {queue}, never came out, and is not there"));
    } else if life.deaths.is_empty()
        && !life.holds.iter().flat_map(|hold| &hold.verdicts).any(|given| {
            let final_verdict = matches!(given.verdict, Verdict::Ack | Verdict::DeadLetter { .. });
            given.may_have() && (final_verdict || given.answer == Some(Ok(Settled::Died)))
        })
    {
        found.add("H2", format!("{id} came out of {queue}, was never brought to its end, and is not there"));
    }
}
