//! H3, H10, H13, H14: what has ended has ended, and only its holder can end it.

use polyqueue::{Extended, MessageId, QueueName, Verdict};

use super::found::{Bounds, Found};
use super::view::{Given, Hold, Life, View, follows};

pub(super) fn check(view: &View<'_>, bounds: &Bounds, found: &mut Found) {
    for (queue, id) in &view.reused {
        found.add("H14", format!("{id} came from {queue} with a receipt that its consumer had seen before"));
    }
    for ((queue, id), life) in &view.lives {
        let of = (*queue, *id);
        for hold in &life.holds {
            twice(of, hold, found);
            stale(view, bounds, of, hold, found);
        }
        if life.single().is_some() && !view.line(queue).blind {
            rises(view, of, life, found);
            many_ends(view, of, life, found);
        }
    }
}

type Of<'a> = (&'a QueueName, &'a MessageId);

/// H13 for one receipt: of its verdicts one takes effect at most.
fn twice((queue, id): Of<'_>, hold: &Hold<'_>, found: &mut Found) {
    let effects = hold.verdicts.iter().filter(|given| given.took_effect()).count();
    if effects > 1 {
        found.add("H13", format!("{id} of {queue}: {effects} verdicts for one receipt took effect"));
    }
}

/// H13 for one message: it ends once for each of its lives.
fn many_ends(view: &View<'_>, (queue, id): Of<'_>, life: &Life<'_>, found: &mut Found) {
    let ends = life.holds.iter().flat_map(|hold| &hold.verdicts).filter(|given| given.is_last()).count();
    if view.trusts_all() && ends > 1 + life.redrives.len() {
        found.add("H13", format!("{id} of {queue} was brought to its end {ends} times"));
    }
}

/// H14: after the end of the lease no verdict and no extension has an effect.
fn stale(view: &View<'_>, bounds: &Bounds, (queue, id): Of<'_>, hold: &Hold<'_>, found: &mut Found) {
    let Some(lease) = hold.reader.map(|reader| reader.lease) else { return };
    let mut over = hold.ret.at + lease;
    for (span, answer) in &hold.extensions {
        let Some(ret) = span.ret.filter(|ret| view.trusts(*ret)) else { return };
        if let Some(Ok(Extended::Until(_))) = answer {
            if span.inv.at > over + bounds.grain {
                found.add(
                    "H14",
                    format!("{id} of {queue} was extended {:?} after its lease", span.inv.at - over),
                );
            }
            over = over.max(ret.at + lease);
        }
    }
    for given in hold.verdicts.iter().filter(|given| given.took_effect()) {
        let trusted = given.span.ret.is_some_and(|ret| view.trusts(ret));
        if trusted && given.span.inv.at > over + bounds.grain {
            let late = given.span.inv.at - over;
            found
                .add("H14", format!("{id} of {queue}: {} took effect {late:?} after the lease", word(given)));
        }
    }
}

/// H3, H10, and H14 for receipts that another hand-out has replaced.
fn rises(view: &View<'_>, (queue, id): Of<'_>, life: &Life<'_>, found: &mut Found) {
    for (at, hold) in life.holds.iter().enumerate() {
        let Some(given) = hold.settled() else { continue };
        let later = life.holds[at + 1..].iter().filter(|next| follows(hold, next) && view.trusts(next.ret));
        for next in later {
            if given.span.inv.seq > next.ret.seq {
                let text = format!("{id} of {queue}: {} took effect after another hand-out", word(given));
                found.add("H14", text);
            } else if given.is_last() && !(given.verdict != &Verdict::Ack && life.redriven_before(next.ret)) {
                found.add("H10", format!("{id} of {queue} was handed out again after its {}", word(given)));
            }
        }
        if given.verdict == &Verdict::Ack {
            let since = |seen: u64| given.span.ret.is_some_and(|ret| ret.seq < seen);
            if life.deaths.iter().any(|seen| since(seen.inv.seq) && view.trusts(seen.inv)) {
                found.add("H3", format!("{id} of {queue} was acked and is a dead letter"));
            }
        }
    }
}

fn word(given: &Given<'_>) -> &'static str {
    match given.verdict {
        Verdict::Ack => "ack",
        Verdict::Retry { .. } => "retry",
        Verdict::Release { .. } => "release",
        Verdict::DeadLetter { .. } => "rejection",
    }
}
