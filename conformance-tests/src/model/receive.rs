//! What a receive may bring.

use std::time::Duration;

use polyqueue::Delivery;
use tokio::time::Instant;

use super::message::{Known, Lease, Place, Span, name};
use super::order::in_order;
use super::state::{Delivered, Judgement, Model};
use super::time::pass;
use crate::history::Envelope;

/// What was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) consumer: usize,
    pub(super) max: usize,
    pub(super) wait: Duration,
}

/// Judges what a receive brought, and takes it over.
pub(super) fn judge(model: &mut Model, call: Span, asked: Asked, came: &[Delivery]) -> Judgement {
    pass(model, call.inv);
    let ready_before = model.ready().count();
    if came.len() > asked.max {
        return Err(format!("{} came, {} were asked for", came.len(), asked.max));
    }
    punctual(model, call, asked, came.len(), ready_before)?;
    for delivery in came {
        let at = find(model, delivery)?;
        may_come(model, at, call, delivery)?;
        in_order(model, at)?;
        take(model, at, call, asked, delivery)?;
    }
    let left = model.ready().count();
    // Where brokers have to put something back into its order they may answer with what they have.
    let enough = if model.rules.exact() { asked.max } else { 1 };
    if left > 0 && came.len() < enough {
        let left: Vec<String> =
            model.ready().map(|(at, _, ready)| format!("{} ({ready:?})", name(at))).collect();
        let (came, max, left) = (came.len(), asked.max, left.join(", "));
        return Err(format!("{came} came, {max} were asked for, and ready were {left}"));
    }
    model.coverage.note_if(left > 0, "as many as asked for, and more ready");
    model.coverage.note_if(came.is_empty(), "empty receive");
    Ok(())
}

/// It answers when it has something; empty, when it has waited.
fn punctual(model: &Model, call: Span, asked: Asked, came: usize, ready: usize) -> Judgement {
    let late = model.rules.late + model.rules.grain;
    let took = call.ret - call.inv;
    if came == 0 && took + model.rules.grain < asked.wait {
        return Err(format!("empty after {took:?}, it was to wait {:?}", asked.wait));
    }
    if model.rules.exact() && ready > 0 && !took.is_zero() {
        return Err(format!("took {took:?} although {ready} were ready"));
    }
    if model.rules.exact() && took > asked.wait {
        return Err(format!("took {took:?}, it was to wait {:?} at most", asked.wait));
    }
    let first = comes_back(model).map(|(by, _)| by).min();
    match first {
        Some(by) if ready == 0 && call.ret > by.max(call.inv) + late => {
            Err(format!("answered {:?} after something had become ready", call.ret - by))
        }
        _ => Ok(()),
    }
}

/// When what is not ready will be at the latest, as far as it is to be handed out again.
fn comes_back(model: &Model) -> impl Iterator<Item = (Instant, usize)> {
    model.messages.iter().enumerate().filter_map(|(at, message)| match message.place {
        Place::Delayed(due, _) if !message.expires_by(due.by) => Some((due.by, at)),
        Place::InFlight(lease) if message.attempts < message.max && !message.expires_by(lease.by) => {
            Some((lease.by, at))
        }
        _ => None,
    })
}

fn find(model: &Model, delivery: &Delivery) -> Result<usize, String> {
    let id = delivery.message.id();
    let found = model.messages.iter().position(|message| message.sent.id() == id);
    found.ok_or_else(|| format!("{id} came, which nobody published here"))
}

/// Whether this message can be handed out at all, and is what it was.
fn may_come(model: &mut Model, at: usize, call: Span, delivery: &Delivery) -> Judgement {
    let message = &model.messages[at];
    let (id, attempt) = (name(at), delivery.attempt);
    match message.place {
        Place::Ready(_) => {}
        Place::Delayed(due, _) if due.from > call.ret => {
            return Err(format!("{id} came {:?} before its time", due.from - call.ret));
        }
        Place::InFlight(lease) if lease.from > call.ret => {
            return Err(format!("{id} came {:?} before its holder's lease ended", lease.from - call.ret));
        }
        Place::Delayed(due, _) => model.coverage.note_if(due.by > call.inv, "delay due during a receive"),
        Place::InFlight(lease) => model.coverage.note_if(lease.by > call.inv, "lease ended during a receive"),
        Place::Dead | Place::Gone => return Err(format!("{id} came, although it has come to its end")),
    }
    let message = &model.messages[at];
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

fn take(model: &mut Model, at: usize, call: Span, asked: Asked, delivery: &Delivery) -> Judgement {
    if model.deliveries.iter().any(|it| it.consumer == asked.consumer && it.receipt == delivery.receipt) {
        return Err(format!("{} came with a receipt that its consumer had seen before", name(at)));
    }
    let rules = model.rules;
    let (from, over) = (call.inv + rules.lease, call.ret + rules.lease + rules.grain);
    let told = delivery.lease_until;
    // In virtual time all of a call's waiting is over when it hands out.
    let from = if rules.exact() { over } else { from - rules.grain };
    if told < from || told > over {
        return Err(format!("{} has a lease until {:?} from now", name(at), told - call.ret));
    }
    note_coming(model, at, call);
    let message = &mut model.messages[at];
    message.attempts += 1;
    message.holder = Some(asked.consumer);
    let lease = Lease {
        delivery: model.deliveries.len(),
        from: told - rules.grain,
        over,
        by: call.ret + rules.lease + rules.late,
        extended: false,
    };
    message.place = Place::InFlight(lease);
    model.deliveries.push(Delivered {
        message: at,
        consumer: asked.consumer,
        receipt: delivery.receipt.clone(),
        attempt: delivery.attempt,
        settled: false,
        known_end: lease.from,
    });
    Ok(())
}

fn note_coming(model: &mut Model, at: usize, call: Span) {
    let message = &model.messages[at];
    let ready = match message.place {
        Place::Ready(ready) => Some(ready),
        _ => None,
    };
    let waited = ready.is_none_or(|ready| ready.due.is_some());
    let before = ready.is_some_and(|ready| ready.due.is_some_and(|due| due.by <= call.inv));
    let (first, failed) = (message.holder.is_none(), message.last_error.is_some());
    let (attempts, redriven) = (message.attempts, message.redriven);
    model.coverage.note_if(first && before, "delay due before a receive");
    model.coverage.note_if(waited && failed, "retry came back after its wait");
    model.coverage.note_if(!first && attempts == 0 && redriven == 0, "released message came back");
    model.coverage.note_if(attempts == 0 && redriven > 0, "redriven message came back");
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
