//! H18 late, H20 stuck: no message waits beside an idle receiver.

use polyqueue::{MessageId, QueueName, Settled, Verdict};
use tokio::time::Instant;

use super::found::{Bounds, Found};
use super::order::Ready;
use super::view::{Fate, Hold, Life, Line, Publish, Receive, View};

pub(super) fn check(view: &View<'_>, bounds: &Bounds, found: &mut Found) {
    for (&queue, line) in &view.queues {
        if line.parks() || line.blind {
            continue;
        }
        let sure = |receive: &&Receive<'_>| view.trusts(receive.ret) && !line.hidden_before(receive.ret);
        let idle: Vec<&Receive<'_>> = line
            .receives
            .iter()
            .filter(sure)
            .filter(|receive| receive.max > 0 && receive.ret.at - receive.inv.at >= bounds.late)
            .collect();
        for ((_, id), life) in view.lives.iter().filter(|((in_queue, _), _)| *in_queue == queue) {
            waits(bounds, (queue, id), life, line, &idle, found);
        }
        // A receive of another consumer may just be putting back what it was given too late.
        if bounds.exact || line.readers.len() == 1 {
            let ready = Ready::of(view, bounds, queue, line);
            for receive in line.receives.iter().filter(sure).filter(|receive| receive.came_empty()) {
                if let Some(id) = ready.waits_over(receive) {
                    found.add("H20", format!("a receive from {queue} came back empty beside {id}"));
                }
            }
        }
    }
}

/// A time at which a message surely was ready, and the hand-out that it was ready for.
struct Due<'a> {
    since: Instant,
    next: Option<&'a Hold<'a>>,
}

fn waits(
    bounds: &Bounds,
    (queue, id): (&QueueName, &MessageId),
    life: &Life<'_>,
    line: &Line<'_>,
    idle: &[&Receive<'_>],
    found: &mut Found,
) {
    for due in dues(life, line) {
        for receive in idle {
            let since = due.since.max(receive.inv.at);
            let spans = receive.ret.at >= since + bounds.late;
            match due.next {
                Some(next) if spans && next.ret.at > since + bounds.late && !reborn(life, line, next) => {
                    let late = next.ret.at - since;
                    let what = format!("{id} came out of {queue} {late:?} late, beside an idle receiver");
                    found.add_late("H18", what, since, next.ret.at);
                    return;
                }
                None if spans && stays(life, line, receive) => {
                    found.add("H20", format!("{id} never came out of {queue}, beside an idle receiver"));
                    return;
                }
                _ => {}
            }
        }
    }
}

/// Whether it may have died meanwhile, by the clock or to make room, and been redriven for this hand-out.
fn reborn(life: &Life<'_>, line: &Line<'_>, next: &Hold<'_>) -> bool {
    life.redriven_before(next.ret) && (line.overflows() || life.may_expire_before(next.ret.at))
}

/// Whether nothing but a hand-out can have taken it away.
fn stays(life: &Life<'_>, line: &Line<'_>, receive: &Receive<'_>) -> bool {
    let mortal = line.overflows() || life.may_expire_before(receive.ret.at);
    life.deaths.is_empty() && !mortal && !line.emptied_before(receive.ret)
}

fn dues<'a>(life: &'a Life<'a>, line: &Line<'_>) -> Vec<Due<'a>> {
    let mut all = Vec::new();
    let sure = |publish: &&Publish<'_>| publish.fate == Fate::Stored && life.moves.is_empty();
    let Some(publish) = life.single().filter(sure) else { return all };
    if let Some(ret) = publish.span.ret {
        all.push(Due { since: ret.at + publish.sent.delay, next: life.first() });
    }
    for (at, hold) in life.holds.iter().enumerate() {
        let next = life.holds.get(at + 1);
        if let Some(since) = ready_again(hold, line) {
            all.push(Due { since, next });
        }
    }
    all
}

/// When a message that was handed out surely is ready again; `None` when it is not, or nobody can say.
fn ready_again(hold: &Hold<'_>, line: &Line<'_>) -> Option<Instant> {
    match hold.settled() {
        Some(given) => match given.verdict {
            Verdict::Retry { after, .. } | Verdict::Release { after }
                if given.answer == Some(Ok(Settled::Applied)) =>
            {
                Some(given.span.ret?.at + *after)
            }
            _ => None,
        },
        None if hold.verdicts.iter().any(|given| given.may_have()) => None,
        None => {
            let max = line.agreed_max(hold.handout.envelope.max_attempts)?;
            hold.lease_over().filter(|_| hold.handout.attempt < max)
        }
    }
}
