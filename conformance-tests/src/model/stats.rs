//! What stats must say.

use std::ops::RangeInclusive;

use polyqueue::QueueStats;

use super::message::{Place, Span};
use super::state::{Judgement, Model};
use super::time::pass;

/// How many messages are somewhere: so many surely, and some more that may be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) surely: u64,
    perhaps: u64,
}

impl Count {
    fn range(self) -> RangeInclusive<u64> {
        self.surely..=self.surely + self.perhaps
    }
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    ready: Count,
    pub(super) delayed: Count,
    pub(super) in_flight: Count,
    dead: Count,
}

pub(super) fn counts(model: &Model, call: Span) -> Counts {
    let mut all = Counts { dead: Count { surely: model.dead.len() as u64, perhaps: 0 }, ..Counts::default() };
    for message in &model.messages {
        match message.place {
            Place::Ready(_) => all.ready.surely += 1,
            Place::Delayed(due, _) if call.ret < due.from => all.delayed.surely += 1,
            Place::Delayed(..) => {
                all.delayed.perhaps += 1;
                all.ready.perhaps += 1;
            }
            Place::InFlight(lease) if call.ret < lease.from => all.in_flight.surely += 1,
            Place::InFlight(_) => {
                all.in_flight.perhaps += 1;
                let next = if message.attempts < message.max { &mut all.ready } else { &mut all.dead };
                next.perhaps += 1;
            }
            Place::Dead | Place::Gone => {}
        }
    }
    all
}

/// Judges counts. What the backend says nobody can know is not compared.
pub(super) fn judge(model: &mut Model, call: Span, stats: &QueueStats) -> Judgement {
    pass(model, call.inv);
    model.counts_delayed = Some(stats.delayed.is_some());
    let all = counts(model, call);
    let everywhere = [all.ready, all.delayed, all.in_flight, all.dead].iter().all(|count| count.surely > 0);
    model.coverage.note_if(everywhere, "stats of every place at once");
    for (what, shown, count) in [
        ("ready", Some(stats.ready), all.ready),
        ("dead", Some(stats.dead), all.dead),
        ("delayed", stats.delayed, all.delayed),
        ("in flight", stats.in_flight, all.in_flight),
    ] {
        if shown.is_some_and(|shown| !count.range().contains(&shown)) {
            return Err(format!("stats say {shown:?} {what}, not {:?}", count.range()));
        }
    }
    oldest(model, call, stats)?;
    let (shown, done) = (&stats.counters, model.done);
    let shown = [shown.published, shown.acked, shown.retried, shown.released, shown.died, shown.duplicates];
    let done = [done.published, done.acked, done.retried, done.released, done.died, done.duplicates];
    if shown != done {
        let what = "published, acked, retried, released, died, duplicates";
        return Err(format!("{what} are {shown:?}, not {done:?}"));
    }
    Ok(())
}

/// The age of the oldest ready message, where time is exact and the backend knows it.
fn oldest(model: &Model, call: Span, stats: &QueueStats) -> Judgement {
    let Some(shown) = stats.oldest.filter(|_| model.rules.exact()) else { return Ok(()) };
    let since = model.ready().map(|(_, _, ready)| ready.since).min();
    match since.map(|since| call.inv - since) {
        Some(age) if age == shown => Ok(()),
        age => Err(format!("the oldest ready message has been so for {shown:?}, not {age:?}")),
    }
}
