//! The order of the hand-outs of one message.

use std::time::Duration;

use super::life::Hold;

/// Puts hand-outs in the order in which they happened. They are read in the order in which their receives began; a
/// receive that waited long may have brought the later one. Where both orders are possible the attempts decide.
pub(super) fn sort_holds(holds: &mut [Hold<'_>]) {
    holds.sort_by_key(|hold| hold.ret.seq);
    for _ in 1..holds.len() {
        for second in 1..holds.len() {
            let (a, b) = (&holds[second - 1], &holds[second]);
            if a.handout.attempt > b.handout.attempt && may_be_swapped(a, b) {
                holds.swap(second - 1, second);
            }
        }
    }
}

/// Whether `b` surely was handed out after `a`.
pub(in crate::check) fn follows(a: &Hold<'_>, b: &Hold<'_>) -> bool {
    a.ret.seq < b.inv.seq || (a.ret.seq < b.ret.seq && !may_be_swapped(a, b))
}

/// Whether `b`, which came back later, may have been handed out first: only if its answer was on its way for a whole lease.
fn may_be_swapped(a: &Hold<'_>, b: &Hold<'_>) -> bool {
    let lease = b.reader.map_or(Duration::ZERO, |reader| reader.lease);
    let settled_before = a.settled().is_some_and(|given| given.span.before(b.ret));
    !settled_before && b.inv.at + lease <= a.ret.at
}
