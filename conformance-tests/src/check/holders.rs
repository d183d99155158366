//! H9, H19: one holder at a time, and no copies.

use polyqueue::{MessageId, QueueName, Settled, Verdict};

use super::found::{Bounds, Found};
use super::view::{Hold, Life, Line, View, follows};

pub(super) fn check(view: &View<'_>, bounds: &Bounds, found: &mut Found) {
    for ((queue, id), life) in &view.lives {
        let line = view.line(queue);
        if life.single().is_none() || line.blind {
            continue;
        }
        for pair in life.holds.windows(2) {
            two_holders(view, bounds, (queue, id), pair, found);
        }
        for hold in &life.holds {
            cut_short(view, bounds, (queue, id), hold, line, found);
        }
        copies(view, bounds, (queue, id), life, found);
    }
}

/// H9: what one was told is its own is not handed to another.
fn two_holders(
    view: &View<'_>,
    bounds: &Bounds,
    (queue, id): (&QueueName, &MessageId),
    pair: &[Hold<'_>],
    found: &mut Found,
) {
    let [first, second] = pair else { return };
    let over = first.ended.is_some_and(|ended| ended.seq < second.ret.seq);
    if over || first.maybe_settled_before(second.ret) || !view.trusts(second.ret) || !follows(first, second) {
        return;
    }
    let early = first.promised().saturating_duration_since(second.ret.at);
    if early > bounds.grain {
        found.add("H9", format!("{id} of {queue} was handed out {early:?} before its holder's lease ended"));
    }
}

/// H9: the lease is not taken away from its holder before its end.
fn cut_short(
    view: &View<'_>,
    bounds: &Bounds,
    (queue, id): (&QueueName, &MessageId),
    hold: &Hold<'_>,
    line: &Line<'_>,
    found: &mut Found,
) {
    for given in hold.verdicts.iter().filter(|given| given.answer == Some(Ok(Settled::LeaseLost))) {
        let Some(ret) = given.span.ret.filter(|ret| view.trusts(*ret)) else { continue };
        let excused = hold.ended.is_some_and(|ended| ended.seq < ret.seq)
            || hold.maybe_settled_before(ret)
            || line.deletes.iter().any(|span| span.inv.seq < ret.seq);
        if !excused && ret.at + bounds.grain < hold.handout.lease_until {
            let early = hold.handout.lease_until - ret.at;
            found.add("H9", format!("{id} of {queue}: the lease was lost {early:?} before its end"));
        }
    }
}

/// H19: without faults a message comes once, and once more for each reason to come again.
fn copies(
    view: &View<'_>,
    bounds: &Bounds,
    (queue, id): (&QueueName, &MessageId),
    life: &Life<'_>,
    found: &mut Found,
) {
    let Some(last) = life.holds.last().filter(|last| view.trusts(last.ret)) else { return };
    let comes_back = |hold: &&Hold<'_>| match hold.settled() {
        Some(given) => {
            let again = matches!(given.verdict, Verdict::Retry { .. } | Verdict::Release { .. });
            again && given.answer == Some(Ok(Settled::Applied))
        }
        None => {
            let ended = hold.ended.is_some_and(|ended| ended.seq < last.ret.seq);
            ended || hold.handout.lease_until <= last.ret.at + bounds.grain
        }
    };
    let reasons = life.holds.iter().filter(comes_back).count() + life.redrives.len();
    if life.holds.len() > 1 + reasons {
        let (came, may) = (life.holds.len(), 1 + reasons);
        found.add("H19", format!("{id} came out of {queue} {came} times, {may} were due"));
    }
}
