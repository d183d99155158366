//! The numbers of a report.

use std::time::Duration;

use super::deed::Done;
use super::duplicates;
use super::entry::{Ended, Told, Word};
use super::found::Evidence;
use super::report::{Happened, Report, Violation};
use super::setting::queues_for;

/// The report of what was found; whose, the caller says.
pub(super) fn summary(evidence: &Evidence<'_>, violations: Vec<Violation>) -> Report {
    let lives = || evidence.pages.lives.values();
    let told =
        |wanted| lives().filter(|life| life.told.is_some_and(|(_, told)| told == wanted)).count() as u64;
    let verdicts = || lives().flat_map(|life| &life.holds).filter_map(|hold| hold.given);
    let acks = verdicts().filter(|given| given.word == Word::Ack);
    let timeline: Vec<Happened> = evidence.deeds.iter().map(|done| happened(evidence, done)).collect();
    let slowest = timeline.iter().filter(|it| it.recovered_ms.is_some()).max_by_key(|it| it.recovered_ms);
    let broken = |rule| Report::broken(&violations, rule);
    Report {
        backend: "",
        namespace: String::new(),
        seed: 0,
        lasted_ms: evidence.ended.as_millis() as u64,
        stopped: false,
        producers: evidence.producers,
        consumers: evidence.consumers,
        faults: evidence.faults().count() as u64,
        published: told(Told::Stored),
        unknown: lives().filter(|life| matches!(life.told, None | Some((_, Told::Unknown)))).count() as u64,
        delivered: lives().map(|life| life.holds.len() as u64).sum(),
        acked: acks.filter(|given| given.told.is_some_and(|(_, told)| told == Ended::Applied)).count() as u64,
        dead: lives().filter(|life| life.buried).count() as u64,
        duplicates: lives().map(duplicates::count).sum(),
        unexplained: broken("duplicate"),
        lost: broken("lost"),
        after_ack: broken("after_ack"),
        early: broken("early"),
        double_holders: broken("double_holder"),
        late: broken("late"),
        silent: broken("silent"),
        other: broken("unexpected") + broken("error"),
        slowest_recovery_ms: slowest.and_then(|it| it.recovered_ms),
        slowest_recovery_after: slowest.map(|it| it.what.clone()),
        timeline,
        violations,
    }
}

fn happened(evidence: &Evidence<'_>, done: &Done) -> Happened {
    Happened {
        at_ms: done.began.as_millis() as u64,
        what: done.deed.to_string(),
        lasted_ms: (done.healed - done.began).as_millis() as u64,
        recovered_ms: recovery(evidence, done).map(|it| it.as_millis() as u64),
    }
}

/// From the end of a fault to when on each queue something came whose publish began since; `None` where the next fault, or the end,
/// came before.
fn recovery(evidence: &Evidence<'_>, done: &Done) -> Option<Duration> {
    let next = evidence.faults().map(|fault| fault.began).filter(|began| *began > done.healed).min();
    let first = |queue: usize| {
        let fresh = evidence.pages.lives.values().filter(|life| {
            life.sent
                .is_some_and(|sent| sent.queue == queue && sent.at >= done.healed && sent.delay.is_zero())
        });
        fresh.filter_map(|life| life.holds.iter().map(|hold| hold.came).min()).min()
    };
    let firsts = (0..queues_for(evidence.consumers)).map(first).collect::<Option<Vec<_>>>()?;
    let works = firsts.into_iter().max()?;
    (done.deed.is_fault() && next.is_none_or(|next| works < next)).then(|| works.saturating_sub(done.healed))
}
