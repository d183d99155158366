//! H4, H7: nothing is handed out before its time. Measured from the begin of the call that set the time.

use polyqueue::{Settled, Verdict};

use super::found::{Bounds, Found};
use super::view::{View, follows};

pub(super) fn check(view: &View<'_>, _: &Bounds, found: &mut Found) {
    for ((queue, id), life) in &view.lives {
        for hold in &life.holds {
            if let Some(early) = life
                .due(hold)
                .and_then(|due| due.checked_duration_since(hold.ret.at))
                .filter(|it| !it.is_zero())
            {
                found.add("H4", format!("{id} came out of {queue} {early:?} before its delay had passed"));
            }
        }
        if life.single().is_none() {
            continue;
        }
        for (at, hold) in life.holds.iter().enumerate() {
            let Some(given) = hold.settled().filter(|given| given.answer == Some(Ok(Settled::Applied)))
            else {
                continue;
            };
            let (Verdict::Retry { after, .. } | Verdict::Release { after }) = given.verdict else { continue };
            let due = given.span.inv.at + *after;
            for next in &life.holds[at + 1..] {
                let early = due.saturating_duration_since(next.ret.at);
                if !early.is_zero()
                    && view.trusts(next.ret)
                    && follows(hold, next)
                    && !life.redriven_before(next.ret)
                    && !life.moved_before(next.ret)
                {
                    found.add(
                        "H7",
                        format!("{id} came back from {queue} {early:?} before its wait had passed"),
                    );
                }
            }
        }
    }
}
