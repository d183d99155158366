//! What may never happen, whatever else does.

use std::time::Duration;

use super::entry::{Told, Word};
use super::found::{Evidence, Found};
use super::life::{Given, Hold, Life};
use super::{duplicates, waits};

/// How long after a crash an answer that was given before it is read, on a machine that is not busy.
const READ_WITHIN: Duration = Duration::from_millis(100);

/// Everything that is broken.
pub(super) fn judge(evidence: &Evidence<'_>) -> Found {
    let mut found = Found::default();
    for (id, life) in &evidence.pages.lives {
        let before = found.0.len();
        unexpected(id, life, &mut found);
        lost(evidence, id, life, &mut found);
        early(evidence, id, life, &mut found);
        risen(evidence, id, life, &mut found);
        double_holders(evidence, id, life, &mut found);
        duplicates::unexplained(evidence, id, life, &mut found);
        waits::late(evidence, id, life, &mut found);
        found.0[before..].iter_mut().for_each(|violation| violation.life = life.lines());
    }
    waits::silent(evidence, &mut found);
    for (at, error) in &evidence.pages.troubles {
        found.add("error", *at, format!("an error that does not pass: {error}"));
    }
    found.0.sort_by_key(|violation| violation.at_ms);
    found
}

/// Nothing comes out that was not put in.
fn unexpected(id: &str, life: &Life, found: &mut Found) {
    let Some(first) = life.holds.first() else { return };
    match (&life.sent, life.told) {
        (None, _) => found.add("unexpected", first.came, format!("{id} came, and nobody published it")),
        (_, Some((_, Told::Refused))) => {
            found.add(
                "unexpected",
                first.came,
                format!("{id} came, although its publish surely had no effect"),
            );
        }
        (Some(sent), _) if sent.queue != first.handout.queue => {
            found.add("unexpected", first.came, format!("{id} came out of another queue"));
        }
        _ => {}
    }
}

fn lost(evidence: &Evidence<'_>, id: &str, life: &Life, found: &mut Found) {
    if life.is_outstanding() {
        let at = life.told.map_or(evidence.ended, |(at, _)| at);
        let holds = life.holds.len();
        found.add("lost", at, format!("{id} was stored, came {holds} times, and is neither acked nor dead"));
    }
}

fn early(evidence: &Evidence<'_>, id: &str, life: &Life, found: &mut Found) {
    if let (Some(sent), Some(first)) = (life.sent, life.holds.iter().map(|hold| hold.came).min()) {
        let due = sent.at + sent.delay;
        if first + evidence.grain < due {
            found.add("early", first, format!("{id} came {:?} before its delay had passed", due - first));
        }
    }
    for hold in &life.holds {
        let Some((given, after)) = hold.given.and_then(|given| Some((given, given.waits()?))) else {
            continue;
        };
        let due = given.at + after;
        // What has a lower attempt was handed out before.
        let later = |next: &&Hold| next.handout.attempt > hold.handout.attempt && next.came > hold.came;
        let next = life.holds.iter().filter(later);
        for next in next.filter(|next| !life.redriven_between(hold.came, next.came)) {
            if next.came + evidence.grain < due && !of_another_copy(evidence, life, hold, next) {
                found.add("early", next.came, format!("{id} came {:?} before its retry", due - next.came));
            }
        }
    }
}

/// Where a fault may have left two copies, each has its own attempts and waits: whether this is what became of the other one.
fn of_another_copy(evidence: &Evidence<'_>, life: &Life, hold: &Hold, next: &Hold) -> bool {
    let born = life.sent.as_ref().map_or(Duration::ZERO, |sent| sent.at);
    let was_free = |other: &Hold| {
        other.given.is_none_or(|given| given.may_wait().is_some_and(|after| given.at + after <= next.came))
    };
    let mut others = life.holds.iter().filter(|other| {
        other.handout.hold != hold.handout.hold
            && other.handout.attempt + 1 == next.handout.attempt
            && other.came < next.came
    });
    !evidence.atomic_moves && evidence.disturbed(born, next.came) && others.any(was_free)
}

/// What was acked, or has died, comes no more.
fn risen(evidence: &Evidence<'_>, id: &str, life: &Life, found: &mut Found) {
    for hold in &life.holds {
        let Some(given) = hold.given.filter(|given| given.is_last()) else { continue };
        let Some((told, _)) = given.told else { continue };
        if may_be_two(evidence, life, hold, &given) {
            continue;
        }
        if undone_by_a_crash(evidence, told) {
            continue;
        }
        for next in life.holds.iter().filter(|next| next.handout.hold != hold.handout.hold) {
            let after = next.handout.asked > told || later_attempt(evidence, hold, next);
            if after && !life.redriven_between(given.at, next.came) {
                let what = format!(
                    "{id} came {:?} after the answer that it was at its end",
                    next.came.saturating_sub(told)
                );
                found.add("after_ack", next.came, what);
            }
        }
    }
}

/// Whether a fault may have left two copies of what was brought to its end: where a move takes two steps, one may have come between
/// them. What was not known to be moved needs two: the first made a client move what it had been pushed.
fn may_be_two(evidence: &Evidence<'_>, life: &Life, hold: &Hold, given: &Given) -> bool {
    let born = life.sent.as_ref().map_or(Duration::ZERO, |sent| sent.at);
    let delayed = life.sent.as_ref().is_some_and(|sent| !sent.delay.is_zero());
    let moved = hold.handout.attempt > 1 || given.word != Word::Ack || delayed;
    !evidence.atomic_moves && evidence.felt(born, given.at) >= if moved { 1 } else { 2 }
}

/// Whether a crash may have undone what was confirmed at this time: it came within the broker's window behind it. What was confirmed
/// after the crash was confirmed by the broker that came up again, however early it was asked for.
fn undone_by_a_crash(evidence: &Evidence<'_>, told: Duration) -> bool {
    let window = evidence.ack_window;
    let crashes = evidence.deeds.iter().filter(|done| done.deed.is_crash_of_broker());
    !window.is_zero()
        && crashes.into_iter().any(|crash| {
            // The answer was read, and written down, a little after it was given.
            let read_by = crash.there + READ_WITHIN + (evidence.slowness)(crash.began, told.max(crash.there));
            told <= read_by && crash.began <= told + window
        })
}

fn later_attempt(evidence: &Evidence<'_>, hold: &Hold, next: &Hold) -> bool {
    !evidence.holds_by_connection && next.handout.attempt > hold.handout.attempt && next.came > hold.came
}

/// Two leases of one message at once, as the broker sees it: a client is told the end of its lease by the begin of its call, so the
/// broker's is no earlier.
fn double_holders(evidence: &Evidence<'_>, id: &str, life: &Life, found: &mut Found) {
    for (nth, first) in life.holds.iter().enumerate() {
        for second in &life.holds[nth + 1..] {
            let settled =
                first.given.is_some_and(|given| given.may_have_taken_effect() && given.at <= second.came);
            let by_connection =
                evidence.holds_by_connection && evidence.disturbed(first.handout.asked, second.came);
            let swapped = second.handout.attempt < first.handout.attempt;
            let redriven = life.redriven_between(first.came, second.came);
            if settled || by_connection || swapped || redriven {
                continue;
            }
            if second.came + evidence.grain < first.handout.until {
                let early = first.handout.until - second.came;
                let what = format!("{id} came {early:?} before its lease had ended: {first}, then {second}");
                found.add("double_holder", second.came, what);
            }
        }
    }
}
