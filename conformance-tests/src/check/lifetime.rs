//! H21: nothing is handed out after its time to live, and nothing expires before it.

use polyqueue::DeadReason;

use super::found::{Bounds, Found};
use super::view::{Life, Publish, View};

pub(super) fn check(view: &View<'_>, bounds: &Bounds, found: &mut Found) {
    for ((queue, id), life) in &view.lives {
        let Some(publish) = life.single() else { continue };
        let Some(end) = publish.lives_until() else { continue };
        if let Some(late) = outlived(view, bounds, life, publish) {
            found.add("H21", format!("{id} came out of {queue} {late:?} after its time to live"));
        }
        let expired = life.deaths.iter().filter(|seen| seen.dead.record.reason == DeadReason::Expired);
        for seen in expired.filter(|seen| !life.redriven_before(seen.ret) && seen.ret.at < end) {
            let early = end - seen.ret.at;
            found.add("H21", format!("{id} expired in {queue} {early:?} before the end of its time to live"));
        }
    }
}

/// How long after its time it was handed out. A receive that began in time may have been answered late.
fn outlived(
    view: &View<'_>,
    bounds: &Bounds,
    life: &Life<'_>,
    publish: &Publish<'_>,
) -> Option<std::time::Duration> {
    let end = publish.span.ret?.at + publish.sent.envelope.ttl()? + bounds.grain;
    let sure = life.holds.iter().filter(|hold| view.trusts(hold.ret) && !life.redriven_before(hold.ret));
    let seen = sure.map(|hold| if bounds.exact { hold.ret.at } else { hold.inv.at });
    seen.filter_map(|at| at.checked_duration_since(end)).find(|late| !late.is_zero())
}
