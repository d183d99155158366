//! H22: of messages with one dedup key a queue stores one, and calls only those duplicates of it that are.

use std::collections::BTreeMap;
use std::time::Duration;

use polyqueue::{Dedup, DedupUntil, MessageId, QueueName, Verdict};

use super::found::{Bounds, Found};
use super::view::{Fate, Given, Life, Line, Publish, View};
use crate::history::Stamp;

pub(super) fn check(view: &View<'_>, bounds: &Bounds, found: &mut Found) {
    for (&queue, line) in &view.queues {
        let Some(dedup) = rule(line).filter(|_| !view.outsiders && !line.blind) else { continue };
        let lives = || view.lives.iter().filter(|((in_queue, _), _)| *in_queue == queue);
        let mut stored: BTreeMap<&str, Vec<(&MessageId, &Life<'_>, &Publish<'_>)>> = BTreeMap::new();
        for ((_, id), life) in lives() {
            for publish in life.publishes.iter().filter(|it| it.span.ret.is_some_and(|ret| view.trusts(ret)))
            {
                let Some(key) = publish.sent.envelope.dedup_key.as_deref() else { continue };
                match publish.fate {
                    Fate::Stored if life.single().is_some() => {
                        stored.entry(key).or_default().push((id, life, publish));
                    }
                    Fate::Duplicate(first) => {
                        let owner = view.lives.get(&(queue, first));
                        if let Some(why) = falsely(bounds, dedup, owner, publish) {
                            let text = format!("{id} is called a duplicate of {first} in {queue}, {why}");
                            found.add("H22", text);
                        }
                    }
                    _ => {}
                }
            }
        }
        for (key, mut all) in stored {
            all.sort_by_key(|(_, _, publish)| publish.span.inv.seq);
            for pair in all.windows(2) {
                twice((queue, line, dedup), key, pair, found);
            }
        }
    }
}

/// How the queue keeps keys, when it was the same queue all the time.
fn rule(line: &Line<'_>) -> Option<Dedup> {
    let same = line.specs.windows(2).all(|pair| pair[0].dedup == pair[1].dedup);
    line.specs.first()?.dedup.filter(|_| same && line.deletes.is_empty())
}

/// Why a publish was no duplicate of the message that it was said to be one of.
fn falsely(
    bounds: &Bounds,
    dedup: Dedup,
    owner: Option<&Life<'_>>,
    publish: &Publish<'_>,
) -> Option<&'static str> {
    let ret = publish.span.ret?;
    let inv = publish.span.inv;
    let claims = |it: &&Publish<'_>| {
        let same = it.sent.envelope.dedup_key == publish.sent.envelope.dedup_key;
        same && it.fate.may_be_stored() && it.span.inv.seq < ret.seq
    };
    let Some(owner) = owner.filter(|life| life.publishes.iter().any(|it| claims(&it))) else {
        return Some("which never had its key");
    };
    let single = owner.single()?;
    let slack = if bounds.exact { Duration::ZERO } else { bounds.late };
    if single.span.ret?.at + dedup.window + slack < inv.at {
        return Some("whose window had ended");
    }
    let before = |given: &&Given<'_>| given.span.before(inv);
    let mut verdicts = owner.holds.iter().flat_map(|hold| &hold.verdicts).filter(before);
    let frees = |given: &Given<'_>| {
        given.is_last() && (given.verdict != &Verdict::Ack || dedup.until == DedupUntil::Ack)
    };
    if verdicts.any(frees) || owner.deaths.iter().any(|seen| seen.ret.seq < inv.seq) {
        return Some("which had come to its end");
    }
    None
}

/// Both were stored, although one of them had the key all the time.
fn twice(
    (queue, line, dedup): (&QueueName, &Line<'_>, Dedup),
    key: &str,
    pair: &[(&MessageId, &Life<'_>, &Publish<'_>)],
    found: &mut Found,
) {
    let [(first, life, a), (second, other, b)] = pair else { return };
    let (Some(a_ret), Some(b_ret)) = (a.span.ret, b.span.ret) else { return };
    let end = if a_ret.seq > b_ret.seq { a_ret } else { b_ret };
    let in_window = end.at < a.span.inv.at + dedup.window;
    let racing = !a.span.before(b.span.inv);
    let freed = |life: &Life<'_>| may_be_free(line, life, dedup, end);
    if first != second && in_window && !freed(life) && !(racing && freed(other)) {
        found.add("H22", format!("{first} and {second} are both in {queue}, under the key {key:?}"));
    }
}

/// Whether anything may have freed the key of a message before that moment.
fn may_be_free(line: &Line<'_>, life: &Life<'_>, dedup: Dedup, moment: Stamp) -> bool {
    let ended = |given: &Given<'_>| match given.verdict {
        Verdict::Ack => dedup.until == DedupUntil::Ack,
        Verdict::DeadLetter { .. } | Verdict::Retry { .. } => true,
        Verdict::Release { .. } => false,
    };
    life.may_expire_before(moment.at)
        || life.moved_before(moment)
        || line.overflows()
        || line.emptied_before(moment)
        || line.hidden_before(moment)
        || !life.deaths.is_empty()
        || life.holds.iter().any(|hold| hold.settled().is_none_or(ended))
}
