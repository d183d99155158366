//! The model's state: messages, each in one place, what was handed out, and what is dead.

use std::collections::BTreeMap;
use std::time::Duration;

use polyqueue::{DeadId, DeadReason, Dedup, Message, Receipt};
use tokio::time::Instant;

use super::coverage::Coverage;
use super::message::{Kind, Known, Place, Ready, Span, Window};
use crate::history::Envelope;

/// What the two consumers call themselves.
pub(super) const CONSUMERS: [&str; 2] = ["model-a", "model-b"];

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
pub(super) struct DeadLettered {
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
    pub(super) dead: Vec<DeadLettered>,
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
    pub(super) fn turn(&self) -> u64 {
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

    pub(super) fn dead_letter(
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
        self.dead.push(DeadLettered { message, reasons: reasons.to_vec(), error, died, id: None });
    }

    /// A message has come to its end: its key is free, if it has one; whether it had.
    pub(super) fn free(&mut self, message: usize) -> bool {
        let before = self.keys.len();
        self.keys.retain(|_, owner| owner.message != message);
        self.keys.len() < before
    }

    /// When something happens by itself, for every message for which something will.
    pub(super) fn windows(&self) -> impl Iterator<Item = Window> {
        self.messages.iter().filter_map(|message| match message.place {
            Place::Delayed(due, _) => Some(due),
            Place::InFlight(lease) => Some(Window { from: lease.from, by: lease.by }),
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
