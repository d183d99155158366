//! What came more often than anybody wanted, and whether a fault explains it.

use std::time::Duration;

use super::found::{Evidence, Found};
use super::life::{Hold, Life};
use super::setting::LEASE;

/// Hand-outs that nobody wanted: with the one before each.
fn unwanted(life: &Life) -> impl Iterator<Item = (&Hold, &Hold)> {
    life.holds.windows(2).filter_map(|pair| {
        let [before, again] = pair else { return None };
        let wanted = before.given.is_some_and(|given| given.waits().is_some())
            || life.wants_no_verdict(before)
            || life.redriven_between(before.came, again.came);
        (!wanted).then_some((before, again))
    })
}

pub(super) fn count(life: &Life) -> u64 {
    unwanted(life).count() as u64
}

/// A message comes twice only by a fault, or because its holder was too slow.
pub(super) fn unexplained(evidence: &Evidence<'_>, id: &str, life: &Life, found: &mut Found) {
    for (before, again) in unwanted(life) {
        let published =
            life.sent.zip(life.told).is_some_and(|(sent, (told, _))| evidence.disturbed(sent.at, told));
        let since = before.handout.asked.min(again.handout.asked);
        let slow = (evidence.slowness)(since, again.came) >= LEASE / 2;
        if !published && !evidence.disturbed(since, again.came) && !slow {
            let what = format!("{id} came twice, without a fault: {}", told(before));
            found.add("duplicate", again.came, what);
        }
    }
}

fn told(hold: &Hold) -> String {
    let held =
        |given: super::life::Given| format!("its holder said {:?}, answered {:?}", given.word, given.told);
    hold.given.map_or_else(|| "its holder said nothing".to_owned(), held)
        + &until(hold.handout.until, hold.came)
}

fn until(until: Duration, came: Duration) -> String {
    format!(", {:?} before the end of its lease", until.saturating_sub(came))
}
