//! The model's state: messages, each in one place, and what time does to them.

use std::collections::BTreeMap;
use std::time::Duration;

use polyqueue::{DeadId, DeadReason, Dedup, Message, Receipt};
use tokio::time::Instant;

use super::coverage::Coverage;
use crate::history::Envelope;

/// What one run of a program promises and may expect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Every subscription's lease and maximum of attempts.
    pub(super) lease: Duration,
    pub(super) max_attempts: u32,
    /// How late what is due by the clock may come; zero in virtual time.
    pub(super) late: Duration,
    /// How the queue keeps dedup keys.
    pub(super) dedup: Dedup,
    /// How far the clocks of broker and test may differ about the end of a lease; zero in virtual time.
    pub(super) grain: Duration,
}

impl Rules {
    /// Whether nothing is left to the clock.
    pub(super) fn exact(&self) -> bool {
        self.late.is_zero()
    }
}

/// What the model says about an answer.
pub(super) type Judgement = Result<(), String>;

/// A call's begin and end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) inv: Instant,
    pub(super) ret: Instant,
}

/// Between these two moments something happens by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    pub(super) from: Instant,
    pub(super) by: Instant,
}

/// How a message became ready.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// Published without delay.
    Fresh,
    /// Its delay passed.
    Due,
    /// It was in somebody's hands, or dead, before.
    Again,
}

/// A message that could be handed out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) kind: Kind,
    /// At which turn it became ready: the first and the last that may have been.
    pub(super) turns: (u64, u64),
    pub(super) due: Option<Window>,
    pub(super) since: Instant,
}

/// A message in somebody's hands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    pub(super) delivery: usize,
    /// The lease does not end before `from`, and has ended at `over`; by `by` the broker has noticed.
    pub(super) from: Instant,
    pub(super) over: Instant,
    pub(super) by: Instant,
    pub(super) extended: bool,
}

/// Where a message is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Ready(Ready),
    Delayed(Window, Kind),
    Held(Hold),
    Dead,
    Gone,
}

/// A message and what the queue must know about it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) sent: Message,
    pub(super) envelope: Envelope,
    pub(super) max: u32,
    /// Hand-outs of this life that count, and of the lives before.
    pub(super) attempts: u32,
    pub(super) earlier: u32,
    pub(super) redriven: u32,
    pub(super) retries: u32,
    pub(super) last_error: Option<String>,
    pub(super) holder: Option<usize>,
    pub(super) place: Place,
    /// When it expires, unless somebody has it in hand then.
    pub(super) expires: Option<Window>,
}

impl Known {
    /// Whether it has expired by then, if nobody has it in hand.
    pub(super) fn expires_by(&self, moment: Instant) -> bool {
        self.expires.is_some_and(|end| end.by <= moment)
    }
}

/// One hand-out.
#[derive(Clone, Debug)]
pub(super) struct Delivered {
    pub(super) message: usize,
    pub(super) consumer: usize,
    pub(super) receipt: Receipt,
    pub(super) attempt: u32,
    pub(super) settled: bool,
    /// The end of the lease that its holder was told.
    pub(super) known_end: Instant,
}

/// A dead letter.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) message: usize,
    /// Of two that are true at once the backend may choose either.
    pub(super) reasons: Vec<DeadReason>,
    /// `None` where the text is the backend's to choose.
    pub(super) error: Option<String>,
    pub(super) died: Window,
    /// Its id, once it has been listed.
    pub(super) id: Option<DeadId>,
}

/// What this handle has done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Done {
    pub(super) published: u64,
    pub(super) acked: u64,
    pub(super) retried: u64,
    pub(super) released: u64,
    pub(super) died: u64,
    pub(super) duplicates: u64,
}

/// Who has a key, and when its window ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) message: usize,
    pub(super) ends: Window,
}

/// The model of one queue.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) rules: Rules,
    pub(super) messages: Vec<Known>,
    pub(super) deliveries: Vec<Delivered>,
    /// In the order of death.
    pub(super) dead: Vec<Letter>,
    pub(super) done: Done,
    /// Who has which dedup key.
    pub(super) keys: BTreeMap<String, Owner>,
    /// Whether this backend can count delayed messages, and hence purge them; unknown before the first stats.
    pub(super) counts_delayed: Option<bool>,
    pub(super) coverage: Coverage,
    /// When each turn was over: a call that changes or looks at the queue.
    turns: Vec<Instant>,
}

impl Model {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            messages: Vec::new(),
            deliveries: Vec::new(),
            dead: Vec::new(),
            done: Done::default(),
            keys: BTreeMap::new(),
            counts_delayed: None,
            coverage: Coverage::default(),
            turns: Vec::new(),
        }
    }

    /// A message that was stored.
    pub(super) fn store(&mut self, call: Span, message: &Message) {
        let max = message.max_attempts().map_or(self.rules.max_attempts, Into::into);
        let place = self.waiting(call, message.delay(), Kind::Due, Kind::Fresh);
        self.done.published += 1;
        self.messages.push(Known {
            sent: message.clone(),
            envelope: Envelope::of(message),
            max,
            attempts: 0,
            earlier: 0,
            redriven: 0,
            retries: 0,
            last_error: None,
            holder: None,
            place,
            expires: message.ttl().map(|ttl| self.after(call, ttl)),
        });
    }

    /// A turn is over: a call that changed the queue, or looked at it.
    pub(super) fn turn_over(&mut self, at: Instant) {
        self.turns.push(at);
    }

    /// So long after a call.
    pub(super) fn after(&self, call: Span, time: Duration) -> Window {
        Window { from: call.inv + time, by: call.ret + time + self.rules.late }
    }

    /// Ready at once, or `after` the call.
    pub(super) fn waiting(&self, call: Span, after: Duration, later: Kind, at_once: Kind) -> Place {
        if after.is_zero() {
            let turn = self.turn();
            return Place::Ready(Ready { kind: at_once, turns: (turn, turn), due: None, since: call.ret });
        }
        Place::Delayed(self.after(call, after), later)
    }

    /// The number of this turn. Between two turns there is room for what happens by itself.
    fn turn(&self) -> u64 {
        self.turns.len() as u64 * 2
    }

    /// The place in the order of turns of what may happen from that moment on.
    pub(super) fn turn_at(&self, from: Instant) -> u64 {
        self.turns.partition_point(|over| *over < from) as u64 * 2 + 1
    }

    /// What is not new becomes ready, now or later.
    pub(super) fn goes_back(&mut self, message: usize, call: Span, after: Duration) {
        self.turns.push(call.ret);
        self.messages[message].place = self.waiting(call, after, Kind::Again, Kind::Again);
    }

    /// Applies what surely has happened by itself. Only calls that look at the queue need to see it: a backend may leave it
    /// undone until then, so that what was published meanwhile may stand before it.
    pub(super) fn pass(&mut self, now: Instant) {
        self.turns.push(now);
        for at in 0..self.messages.len() {
            if let Place::Held(hold) = self.messages[at].place
                && hold.by <= now
            {
                self.lease_ends(at, hold);
            }
            self.grow_old(at, now);
            match self.messages[at].place {
                Place::Delayed(due, kind) if due.by <= now => {
                    let turns = (self.turn_at(due.from), self.turn());
                    let ready = Ready { kind, turns, due: Some(due), since: due.by };
                    self.messages[at].place = Place::Ready(ready);
                }
                _ => {}
            }
        }
    }

    /// What waits longer than its time to live is dead. A lease that runs is not ended.
    fn grow_old(&mut self, at: usize, now: Instant) {
        let Some(died) = self.messages[at].expires.filter(|end| end.by <= now) else { return };
        let what = match self.messages[at].place {
            Place::Ready(_) => "expired while ready",
            Place::Delayed(..) => "expired while delayed",
            _ => return,
        };
        self.coverage.note(what);
        self.bury(at, &[DeadReason::Expired], Some("expired".into()), died);
    }

    fn lease_ends(&mut self, at: usize, hold: Hold) {
        let died = Window { from: hold.from, by: hold.by };
        let expired = self.messages[at].expires.is_some_and(|end| end.by <= hold.by);
        let last = self.messages[at].attempts >= self.messages[at].max;
        match (expired, last) {
            (true, true) => {
                return self.bury(at, &[DeadReason::Expired, DeadReason::MaxAttempts], None, died);
            }
            (true, false) => {
                self.coverage.note("lease ended past the end of its message");
                return self.bury(at, &[DeadReason::Expired], None, died);
            }
            (false, true) => {
                self.coverage.note("died of its last lease");
                return self.bury(at, &[DeadReason::MaxAttempts], None, died);
            }
            (false, false) => {}
        }
        self.coverage.note("lease ended");
        self.coverage.note_if(hold.extended, "extended lease ended");
        let turns = (self.turn_at(hold.from), self.turn());
        let ready = Ready { kind: Kind::Again, turns, due: None, since: hold.by };
        self.messages[at].place = Place::Ready(ready);
    }

    pub(super) fn bury(
        &mut self,
        message: usize,
        reasons: &[DeadReason],
        error: Option<String>,
        died: Window,
    ) {
        self.coverage.note_if(self.messages[message].redriven > 0, "died again after a redrive");
        self.messages[message].place = Place::Dead;
        let freed = self.free(message);
        self.coverage.note_if(freed, "key freed by a death");
        self.dead.push(Letter { message, reasons: reasons.to_vec(), error, died, id: None });
    }

    /// When something happens by itself, for every message for which something will.
    pub(super) fn windows(&self) -> impl Iterator<Item = Window> {
        self.messages.iter().filter_map(|message| match message.place {
            Place::Delayed(due, _) => Some(due),
            Place::Held(hold) => Some(Window { from: hold.from, by: hold.by }),
            _ => None,
        })
    }

    pub(super) fn ready(&self) -> impl Iterator<Item = (usize, &Known, Ready)> {
        self.messages.iter().enumerate().filter_map(|(at, message)| match message.place {
            Place::Ready(ready) => Some((at, message, ready)),
            _ => None,
        })
    }
}

/// Whether, of two messages of one priority, this one must be handed out before that one.
pub(super) fn precedes((at, this): (usize, Ready), (other_at, that): (usize, Ready)) -> bool {
    match (this.kind, that.kind) {
        // What comes back may stand before what never left.
        (Kind::Fresh, Kind::Due | Kind::Again) => false,
        (Kind::Due, Kind::Due) => {
            let (Some(due), Some(other)) = (this.due, that.due) else { return false };
            due.by < other.from || (due == other && at < other_at)
        }
        (Kind::Fresh, Kind::Fresh) => (this.turns, at) < (that.turns, other_at),
        _ => this.turns.1 < that.turns.0,
    }
}
