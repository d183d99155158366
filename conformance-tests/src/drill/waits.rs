//! What waited too long: messages, and clients beside messages.

use std::time::Duration;

use super::found::{Evidence, Found, RECOVERY};
use super::life::Life;
use super::setting::LEASE;

/// How late anything may be while nothing happens to anybody.
const BOUND: Duration = Duration::from_secs(2);

/// When a message surely was ready, and the hand-out that this was for; without one it waits to the end.
struct Ready {
    since: Duration,
    until: Option<Duration>,
}

/// The times at which a stored message was ready.
fn ready(life: &Life) -> Vec<Ready> {
    let mut all = Vec::new();
    let (Some(sent), Some((told, _)), true) = (life.sent, life.told, life.is_stored()) else { return all };
    let nth = |at: usize| life.holds.get(at).map(|hold| hold.came);
    all.push(Ready { since: told.max(sent.at + sent.delay), until: nth(0) });
    for (at, hold) in life.holds.iter().enumerate() {
        let since = match hold.given {
            Some(given) => match (given.waits(), given.told) {
                (Some(after), Some((told, _))) => told + after,
                _ => continue,
            },
            None => hold.came + LEASE,
        };
        all.push(Ready { since, until: nth(at + 1) });
    }
    // What has died meanwhile waits for nobody.
    all.retain(|ready| match ready.until {
        Some(until) => !life.redriven_between(ready.since, until),
        None => life.is_outstanding(),
    });
    all
}

/// Later than due and than the recovery from every fault until then.
pub(super) fn late(evidence: &Evidence<'_>, id: &str, life: &Life, found: &mut Found) {
    for Ready { since, until } in ready(life) {
        let seen = until.unwrap_or(evidence.ended);
        let faults = evidence.faults().filter(|fault| fault.began < seen);
        let recovered = faults.map(|fault| fault.healed + RECOVERY).max().unwrap_or_default();
        let allowed = (since + BOUND).max(recovered);
        if seen > allowed + (evidence.slowness)(since, seen) {
            found.add("late", seen, format!("{id} was ready for {:?} before it came", seen - since));
        }
    }
}

/// A client that got nothing for longer than the recovery, while nothing happened and there was something for it.
pub(super) fn silent(evidence: &Evidence<'_>, found: &mut Found) {
    let calms: Vec<_> = evidence.calms().into_iter().filter(|(from, to)| *to - *from > RECOVERY).collect();
    let lives = || evidence.pages.lives.values();
    for consumer in 0..evidence.consumers {
        let holds = lives().flat_map(|life| &life.holds).filter(|hold| hold.handout.consumer == consumer);
        let came = holds.map(|hold| hold.came).collect();
        let queue = consumer % super::setting::queues_for(evidence.consumers);
        for (from, to) in silences(&calms, came) {
            let slow = (evidence.slowness)(from, to);
            let beside = |life: &&Life| {
                life.sent.is_some_and(|sent| sent.queue == queue)
                    && ready(life).iter().any(|ready| {
                        let until = ready.until.unwrap_or(evidence.ended).min(to);
                        until.saturating_sub(ready.since.max(from)) > RECOVERY + slow
                    })
            };
            if lives().any(|life| beside(&life)) {
                let what =
                    format!("consumer {consumer} got nothing for {:?} beside ready messages", to - from);
                found.add("silent", to, what);
            }
        }
    }
    let Some(last) = lives().filter_map(|life| Some(life.sent?.at)).max() else { return };
    for producer in 0..evidence.producers {
        let stored = lives()
            .filter(|life| life.is_stored() && life.sent.is_some_and(|sent| sent.producer == producer));
        let told = stored.filter_map(|life| Some(life.told?.0)).collect();
        for (from, to) in silences(&calms, told) {
            if to.min(last) > from + RECOVERY + (evidence.slowness)(from, to) {
                let of = |life: &&Life| {
                    life.sent.is_some_and(|sent| sent.producer == producer && sent.at < to)
                        && life.told.is_none_or(|(told, _)| told >= from)
                };
                let what = format!("producer {producer} could store nothing for {:?}", to - from);
                found.add_with("silent", to, what, lives().filter(of).flat_map(Life::lines).collect());
            }
        }
    }
}

/// The parts of calms, longer than the recovery, in which nothing of this happened.
fn silences(calms: &[(Duration, Duration)], mut signs: Vec<Duration>) -> Vec<(Duration, Duration)> {
    signs.sort_unstable();
    let mut all = Vec::new();
    for &(begins, ends) in calms {
        let within = signs.iter().copied().filter(|at| (begins..ends).contains(at));
        let mut from = begins;
        for at in within.chain([ends]) {
            if at - from > RECOVERY {
                all.push((from, at));
            }
            from = at;
        }
    }
    all
}
