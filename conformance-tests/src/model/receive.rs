//! What a receive may bring, and in which order.

use std::time::Duration;

use polyqueue::Delivery;
use tokio::time::Instant;

use super::state::{Delivered, Hold, Judgement, Kind, Known, Model, Place, Ready, Span, precedes};
use crate::history::Envelope;

/// What was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) consumer: usize,
    pub(super) max: usize,
    pub(super) wait: Duration,
}

impl Model {
    /// Judges what a receive brought, and takes it over.
    pub(super) fn receive(&mut self, call: Span, asked: Asked, came: &[Delivery]) -> Judgement {
        self.pass(call.inv);
        let ready_before = self.ready().count();
        if came.len() > asked.max {
            return Err(format!("{} came, {} were asked for", came.len(), asked.max));
        }
        self.punctual(call, asked, came.len(), ready_before)?;
        for delivery in came {
            let at = self.find(delivery)?;
            self.may_come(at, call, delivery)?;
            self.in_order(at)?;
            self.take(at, call, asked, delivery)?;
        }
        let left = self.ready().count();
        // Where brokers have to put something back into its order they may answer with what they have.
        let enough = if self.rules.exact() { asked.max } else { 1 };
        if left > 0 && came.len() < enough {
            let left: Vec<String> =
                self.ready().map(|(at, _, ready)| format!("{} ({ready:?})", name(at))).collect();
            let (came, max, left) = (came.len(), asked.max, left.join(", "));
            return Err(format!("{came} came, {max} were asked for, and ready were {left}"));
        }
        self.coverage.note_if(left > 0, "as many as asked for, and more ready");
        self.coverage.note_if(came.is_empty(), "empty receive");
        Ok(())
    }

    /// It answers when it has something; empty, when it has waited.
    fn punctual(&mut self, call: Span, asked: Asked, came: usize, ready: usize) -> Judgement {
        let late = self.rules.late + self.rules.grain;
        let took = call.ret - call.inv;
        if came == 0 && took + self.rules.grain < asked.wait {
            return Err(format!("empty after {took:?}, it was to wait {:?}", asked.wait));
        }
        if self.rules.exact() && ready > 0 && !took.is_zero() {
            return Err(format!("took {took:?} although {ready} were ready"));
        }
        if self.rules.exact() && took > asked.wait {
            return Err(format!("took {took:?}, it was to wait {:?} at most", asked.wait));
        }
        let first = self.comes_back().map(|(by, _)| by).min();
        match first {
            Some(by) if ready == 0 && call.ret > by.max(call.inv) + late => {
                Err(format!("answered {:?} after something had become ready", call.ret - by))
            }
            _ => Ok(()),
        }
    }

    /// When what is not ready will be at the latest, as far as it is to be handed out again.
    fn comes_back(&self) -> impl Iterator<Item = (Instant, usize)> {
        self.messages.iter().enumerate().filter_map(|(at, message)| match message.place {
            Place::Delayed(due, _) if !message.expires_by(due.by) => Some((due.by, at)),
            Place::Held(hold) if message.attempts < message.max && !message.expires_by(hold.by) => {
                Some((hold.by, at))
            }
            _ => None,
        })
    }

    fn find(&self, delivery: &Delivery) -> Result<usize, String> {
        let id = delivery.message.id();
        let found = self.messages.iter().position(|message| message.sent.id() == id);
        found.ok_or_else(|| format!("{id} came, which nobody published here"))
    }

    /// Whether this message can be handed out at all, and is what it was.
    fn may_come(&mut self, at: usize, call: Span, delivery: &Delivery) -> Judgement {
        let message = &self.messages[at];
        let (id, attempt) = (name(at), delivery.attempt);
        match message.place {
            Place::Ready(_) => {}
            Place::Delayed(due, _) if due.from > call.ret => {
                return Err(format!("{id} came {:?} before its time", due.from - call.ret));
            }
            Place::Held(hold) if hold.from > call.ret => {
                return Err(format!("{id} came {:?} before its holder's lease ended", hold.from - call.ret));
            }
            Place::Delayed(due, _) => self.coverage.note_if(due.by > call.inv, "delay due during a receive"),
            Place::Held(hold) => self.coverage.note_if(hold.by > call.inv, "lease ended during a receive"),
            Place::Dead | Place::Gone => return Err(format!("{id} came, although it has come to its end")),
        }
        let message = &self.messages[at];
        if let Some(end) = message.expires.filter(|end| end.by < call.ret) {
            return Err(format!("{id} came {:?} after its time to live", call.ret - end.by));
        }
        if attempt != message.attempts + 1 {
            return Err(format!("{id} came as attempt {attempt}, not {}", message.attempts + 1));
        }
        if attempt > message.max {
            return Err(format!("{id} came as attempt {attempt} of {}", message.max));
        }
        unchanged(at, message, delivery)
    }

    /// Whether nothing that is ready should have come before it.
    fn in_order(&mut self, at: usize) -> Judgement {
        let priority = self.messages[at].envelope.priority;
        let it = match self.messages[at].place {
            Place::Ready(ready) => ready,
            // Only just ready: at the latest behind all that were ready then.
            Place::Delayed(due, kind) => {
                Ready { kind, turns: (self.turn_at(due.from), u64::MAX), due: Some(due), since: due.by }
            }
            Place::Held(hold) => {
                let turns = (self.turn_at(hold.from), u64::MAX);
                Ready { kind: Kind::Again, turns, due: None, since: hold.by }
            }
            Place::Dead | Place::Gone => return Ok(()),
        };
        let (mut lower, mut equal, mut several) = (false, false, false);
        for (other, message, ready) in self.ready().filter(|(other, ..)| *other != at) {
            let rank = message.envelope.priority;
            if rank > priority {
                let (first, then) = (name(other), name(at));
                return Err(format!("{then} (p{priority}) came before {first} (p{rank}), which was ready"));
            }
            if rank == priority && precedes((other, ready), (at, it)) {
                return Err(format!("{} came before {}, which was ready earlier", name(at), name(other)));
            }
            lower |= rank < priority;
            equal |= rank == priority;
            several |= rank == priority && it.due.is_some() && ready.due == it.due;
        }
        self.coverage.note_if(lower, "two priorities compared");
        self.coverage.note_if(equal, "two of one priority compared");
        self.coverage.note_if(several, "several due at one moment");
        Ok(())
    }

    fn take(&mut self, at: usize, call: Span, asked: Asked, delivery: &Delivery) -> Judgement {
        if self.deliveries.iter().any(|it| it.consumer == asked.consumer && it.receipt == delivery.receipt) {
            return Err(format!("{} came with a receipt that its consumer had seen before", name(at)));
        }
        let rules = self.rules;
        let (from, over) = (call.inv + rules.lease, call.ret + rules.lease + rules.grain);
        let told = delivery.lease_until;
        // In virtual time all of a call's waiting is over when it hands out.
        let from = if rules.exact() { over } else { from - rules.grain };
        if told < from || told > over {
            return Err(format!("{} has a lease until {:?} from now", name(at), told - call.ret));
        }
        self.note_coming(at, call);
        let message = &mut self.messages[at];
        message.attempts += 1;
        message.holder = Some(asked.consumer);
        let hold = Hold {
            delivery: self.deliveries.len(),
            from: told - rules.grain,
            over,
            by: call.ret + rules.lease + rules.late,
            extended: false,
        };
        message.place = Place::Held(hold);
        self.deliveries.push(Delivered {
            message: at,
            consumer: asked.consumer,
            receipt: delivery.receipt.clone(),
            attempt: delivery.attempt,
            settled: false,
            known_end: hold.from,
        });
        Ok(())
    }

    fn note_coming(&mut self, at: usize, call: Span) {
        let message = &self.messages[at];
        let ready = match message.place {
            Place::Ready(ready) => Some(ready),
            _ => None,
        };
        let waited = ready.is_none_or(|ready| ready.due.is_some());
        let before = ready.is_some_and(|ready| ready.due.is_some_and(|due| due.by <= call.inv));
        let (first, failed) = (message.holder.is_none(), message.last_error.is_some());
        let (attempts, redriven) = (message.attempts, message.redriven);
        self.coverage.note_if(first && before, "delay due before a receive");
        self.coverage.note_if(waited && failed, "retry came back after its wait");
        self.coverage.note_if(!first && attempts == 0 && redriven == 0, "released message came back");
        self.coverage.note_if(attempts == 0 && redriven > 0, "redriven message came back");
    }
}

/// What the model calls a message in its texts.
pub(super) fn name(at: usize) -> String {
    format!("message {}", at + 1)
}

/// Whether a message comes as it was sent, but for the fields that we own.
fn unchanged(at: usize, message: &Known, delivery: &Delivery) -> Judgement {
    let came = &delivery.message;
    let envelope = Envelope::of(came);
    if !envelope.came_from(&message.envelope) {
        return Err(format!("{} came changed: {envelope:?}, sent {:?}", name(at), message.envelope));
    }
    // Whether the count of retries outlives a redrive is the backend's to choose.
    if message.redriven > 0 {
        return Ok(());
    }
    if came.retries() != message.retries {
        return Err(format!("{} came with retries {}, not {}", name(at), came.retries(), message.retries));
    }
    if came.last_error() != message.last_error.as_deref() {
        let (shown, given) = (came.last_error(), &message.last_error);
        return Err(format!("{} came with last error {shown:?}, not {given:?}", name(at)));
    }
    Ok(())
}
