//! What the operator's calls must answer: stats, purge, the listing of the dead, redrive and discard.

use std::ops::RangeInclusive;
use std::time::Duration;

use polyqueue::{DeadId, DeadLetter, DeadReason, Purge, QueueStats, Reschedule};

use super::drive::NAMES;
use super::receive::name;
use super::state::{Judgement, Kind, Letter, Model, Place, Span, Window};
use crate::history::Envelope;

/// How many messages are somewhere: so many surely, and some more that may be.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    surely: u64,
    perhaps: u64,
}

impl Count {
    fn range(self) -> RangeInclusive<u64> {
        self.surely..=self.surely + self.perhaps
    }
}

#[derive(Debug, Default)]
struct Counts {
    ready: Count,
    delayed: Count,
    held: Count,
    dead: Count,
}

impl Model {
    /// Whether somewhere something may happen by itself during this call, so that nobody can tell how it ended.
    pub(super) fn unsure(&self, call: Span) -> bool {
        !self.windows().all(|window| call.ret < window.from || window.by <= call.inv)
    }

    fn counts(&self, call: Span) -> Counts {
        let mut all =
            Counts { dead: Count { surely: self.dead.len() as u64, perhaps: 0 }, ..Counts::default() };
        for message in &self.messages {
            match message.place {
                Place::Ready(_) => all.ready.surely += 1,
                Place::Delayed(due, _) if call.ret < due.from => all.delayed.surely += 1,
                Place::Delayed(..) => {
                    all.delayed.perhaps += 1;
                    all.ready.perhaps += 1;
                }
                Place::Held(hold) if call.ret < hold.from => all.held.surely += 1,
                Place::Held(_) => {
                    all.held.perhaps += 1;
                    let next = if message.attempts < message.max { &mut all.ready } else { &mut all.dead };
                    next.perhaps += 1;
                }
                Place::Dead | Place::Gone => {}
            }
        }
        all
    }

    /// Judges counts. What the backend says nobody can know is not compared.
    pub(super) fn stats(&mut self, call: Span, stats: &QueueStats) -> Judgement {
        self.pass(call.inv);
        self.counts_delayed = Some(stats.delayed.is_some());
        let all = self.counts(call);
        let everywhere = [all.ready, all.delayed, all.held, all.dead].iter().all(|count| count.surely > 0);
        self.coverage.note_if(everywhere, "stats of every place at once");
        for (what, shown, count) in [
            ("ready", Some(stats.ready), all.ready),
            ("dead", Some(stats.dead), all.dead),
            ("delayed", stats.delayed, all.delayed),
            ("in flight", stats.in_flight, all.held),
        ] {
            if shown.is_some_and(|shown| !count.range().contains(&shown)) {
                return Err(format!("stats say {shown:?} {what}, not {:?}", count.range()));
            }
        }
        self.oldest(call, stats)?;
        let (shown, done) = (&stats.counters, self.done);
        let shown =
            [shown.published, shown.acked, shown.retried, shown.released, shown.died, shown.duplicates];
        let done = [done.published, done.acked, done.retried, done.released, done.died, done.duplicates];
        if shown != done {
            let what = "published, acked, retried, released, died, duplicates";
            return Err(format!("{what} are {shown:?}, not {done:?}"));
        }
        Ok(())
    }

    /// The age of the oldest ready message, where time is exact and the backend knows it.
    fn oldest(&self, call: Span, stats: &QueueStats) -> Judgement {
        let Some(shown) = stats.oldest.filter(|_| self.rules.exact()) else { return Ok(()) };
        let since = self.ready().map(|(_, _, ready)| ready.since).min();
        match since.map(|since| call.inv - since) {
            Some(age) if age == shown => Ok(()),
            age => Err(format!("the oldest ready message has been so for {shown:?}, not {age:?}")),
        }
    }

    /// Judges how many a purge removed, and removes them.
    pub(super) fn purge(&mut self, call: Span, what: Purge, removed: u64) -> Judgement {
        self.pass(call.inv);
        if what == Purge::Dead {
            self.coverage.note_if(!self.dead.is_empty(), "purge of dead letters");
            let dead: Vec<Letter> = std::mem::take(&mut self.dead);
            dead.iter().for_each(|letter| self.messages[letter.message].place = Place::Gone);
            return same("the purge removed", removed, dead.len() as u64);
        }
        let all = self.counts(call);
        let counts_delayed = self.counts_delayed.unwrap_or(true);
        self.coverage.note_if(all.delayed.surely > 0, "purge with delayed");
        self.coverage.note_if(all.held.surely > 0, "purge with messages in flight");
        let mut gone = 0;
        for at in 0..self.messages.len() {
            let goes = match self.messages[at].place {
                Place::Ready(_) => true,
                Place::Delayed(..) => counts_delayed,
                _ => false,
            };
            if goes {
                self.messages[at].place = Place::Gone;
                let freed = self.free(at);
                self.coverage.note_if(freed, "key freed by a purge");
                gone += 1;
            }
        }
        same("the purge removed", removed, gone)
    }

    /// Judges a listing of all dead letters over so many pages, and learns their ids.
    pub(super) fn listing(&mut self, call: Span, letters: &[DeadLetter], pages: usize) -> Judgement {
        self.pass(call.inv);
        self.coverage.note_if(pages > 1 && letters.len() > 1, "dead letters listed over several pages");
        self.learn_deaths(call, letters);
        same("dead letters listed", letters.len() as u64, self.dead.len() as u64)?;
        let mut before: Option<usize> = None;
        for letter in letters {
            let id = letter.message().map(|message| message.id());
            let known = self.dead.iter().position(|known| Some(self.messages[known.message].sent.id()) == id);
            let Some(at) = known else { return Err(format!("{id:?} is among the dead, but did not die")) };
            self.record(&self.dead[at], letter)?;
            if self.dead[at].id.as_ref().is_some_and(|known| *known != letter.id) {
                return Err(format!(
                    "{} has another dead letter id than before",
                    name(self.dead[at].message)
                ));
            }
            self.dead[at].id = Some(letter.id.clone());
            if let Some(before) = before.filter(|&before| self.dead[at].died.by < self.dead[before].died.from)
            {
                let (late, early) = (name(self.dead[before].message), name(self.dead[at].message));
                return Err(format!("{late} is listed before {early}, which died earlier"));
            }
            before = Some(at);
        }
        Ok(())
    }

    /// A last lease that was about to end has ended when its message is listed.
    fn learn_deaths(&mut self, call: Span, letters: &[DeadLetter]) {
        for at in 0..self.messages.len() {
            let Place::Held(hold) = self.messages[at].place else { continue };
            let message = &self.messages[at];
            let listed =
                |letter: &DeadLetter| letter.message().is_some_and(|it| it.id() == message.sent.id());
            let may = message.attempts >= message.max && hold.from <= call.ret;
            if may && letters.iter().any(listed) {
                let died = Window { from: hold.from, by: call.ret };
                self.bury(at, &[DeadReason::MaxAttempts], None, died);
            }
        }
    }

    /// Whether the record says what was sent and why it died.
    fn record(&self, known: &Letter, letter: &DeadLetter) -> Judgement {
        let (who, message) = (name(known.message), &self.messages[known.message]);
        let wrong = |what: &str, shown: String, not: String| {
            Err(format!("the record of {who} says {what} {shown}, not {not}"))
        };
        if !known.reasons.contains(&letter.reason) {
            return wrong("reason", letter.reason.to_string(), format!("{:?}", known.reasons));
        }
        if let Some(error) = known.error.as_ref().filter(|error| **error != letter.error) {
            return wrong("error", format!("{:?}", letter.error), format!("{error:?}"));
        }
        let shown = (letter.attempts, letter.total_attempts, letter.redriven);
        let counted = (message.attempts, message.earlier + message.attempts, message.redriven);
        if shown != counted {
            return wrong("attempts, total, redriven", format!("{shown:?}"), format!("{counted:?}"));
        }
        let (holder, shown) = (message.holder.map(|at| NAMES[at]), letter.consumer.as_deref());
        if shown.is_some() && shown != holder {
            return wrong("consumer", format!("{shown:?}"), format!("{holder:?}"));
        }
        let envelope = letter.message().map(Envelope::of);
        if !envelope.as_ref().is_some_and(|envelope| envelope.came_from(&message.envelope)) {
            return wrong("message", format!("{envelope:?}"), format!("{:?}", message.envelope));
        }
        let published = letter.message().and_then(|message| message.published_at());
        if letter.first_published_at != published || published.is_some_and(|at| letter.died_at < at) {
            return wrong("times", format!("{:?}", letter.died_at), "after its publication".into());
        }
        Ok(())
    }

    /// Judges the answers to a redrive of these letters, and makes them ready; of those that are not there it must say so.
    pub(super) fn redrive(&mut self, call: Span, asked: &[DeadId], moved: &[bool]) -> Judgement {
        self.gone_as_said("redriven", asked, moved)?;
        for id in asked {
            let Some(at) = self.dead.iter().position(|letter| letter.id.as_ref() == Some(id)) else {
                self.coverage.note("redriven twice");
                continue;
            };
            let letter = self.dead.remove(at);
            self.coverage.note("redriven");
            self.goes_back(letter.message, call, Duration::ZERO);
            let expires = self.messages[letter.message].sent.ttl().map(|ttl| self.after(call, ttl));
            let message = &mut self.messages[letter.message];
            message.expires = expires;
            message.earlier += message.attempts;
            message.attempts = 0;
            message.redriven += 1;
        }
        Ok(())
    }

    /// Judges the answer to a discard, and removes the letter.
    pub(super) fn discard(&mut self, asked: &[DeadId], removed: &[bool]) -> Judgement {
        self.gone_as_said("discarded", asked, removed)?;
        for id in asked {
            if let Some(at) = self.dead.iter().position(|letter| letter.id.as_ref() == Some(id)) {
                let letter = self.dead.remove(at);
                self.messages[letter.message].place = Place::Gone;
                self.coverage.note("discarded");
            }
        }
        Ok(())
    }

    /// Judges the answer to a change of time: only what waits for its time can be changed.
    pub(super) fn reschedule(&mut self, call: Span, message: usize, to: Reschedule, done: bool) -> Judgement {
        self.pass(call.inv);
        let place = self.messages[message].place;
        if done != matches!(place, Place::Delayed(..)) {
            return Err(format!("{} is {place:?}, and was rescheduled: {done}", name(message)));
        }
        match to {
            _ if !done => {}
            Reschedule::Cancel => {
                self.coverage.note("cancelled");
                self.messages[message].place = Place::Gone;
                self.free(message);
            }
            Reschedule::After(after) => {
                self.coverage.note("rescheduled");
                self.messages[message].place = self.waiting(call, after, Kind::Again, Kind::Again);
            }
        }
        Ok(())
    }

    fn gone_as_said(&self, what: &str, asked: &[DeadId], answers: &[bool]) -> Judgement {
        let mut seen = Vec::new();
        let due: Vec<bool> = asked
            .iter()
            .map(|id| {
                let there =
                    !seen.contains(&id) && self.dead.iter().any(|letter| letter.id.as_ref() == Some(id));
                seen.push(id);
                there
            })
            .collect();
        if answers == due { Ok(()) } else { Err(format!("{what} says {answers:?}, not {due:?}")) }
    }
}

fn same(what: &str, shown: u64, due: u64) -> Judgement {
    if shown == due { Ok(()) } else { Err(format!("{what} {shown}, not {due}")) }
}
