//! What a publish must answer: which message has which dedup key.

use polyqueue::{Message, MessageId, Published};

use super::message::{Known, Place, Span, name};
use super::state::{Judgement, Model, Owner};

/// Whether a key is taken during a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Taken {
    Free,
    By(usize),
    /// It becomes free about now, or has, if the backend has noticed.
    PerhapsBy(usize),
}

/// Judges the answers to a publish, one by one, and stores what was stored.
pub(super) fn judge(model: &mut Model, call: Span, batch: &[Message], answers: &[Published]) -> Judgement {
    model.coverage.note_if(batch.len() > 1, "batch published");
    model.turn_over(call.ret);
    for (message, answer) in batch.iter().zip(answers) {
        if answer.id != *message.id() {
            return Err(format!("publish of {} answered {}", message.id(), answer.id));
        }
        let taken = message.dedup_key().map_or(Taken::Free, |key| taken(model, key, call));
        match (&answer.duplicate_of, taken) {
            (None, Taken::Free | Taken::PerhapsBy(_)) => {}
            (Some(first), Taken::By(owner) | Taken::PerhapsBy(owner)) => {
                is_first(model, first, owner)?;
                continue;
            }
            (None, Taken::By(owner)) => return Err(format!("stored beside {}, of one key", name(owner))),
            (Some(first), Taken::Free) => {
                return Err(format!("called a duplicate of {first}, but its key is free"));
            }
        }
        model.store(call, message);
        if let Some(key) = message.dedup_key() {
            let ends = model.after(call, model.rules.dedup.window);
            model.keys.insert(key.into(), Owner { message: model.messages.len() - 1, ends });
        }
    }
    Ok(())
}

fn is_first(model: &mut Model, first: &MessageId, owner: usize) -> Judgement {
    if model.messages[owner].sent.id() != first {
        return Err(format!("called a duplicate of {first}, not of {}", name(owner)));
    }
    // It answered Ok, and so was published; nothing of it was stored.
    model.done.published += 1;
    model.done.duplicates += 1;
    model.coverage.note("duplicate not stored");
    let back = model.messages[owner].retries > 0;
    model.coverage.note_if(back, "duplicate of a message that was retried");
    Ok(())
}

fn taken(model: &mut Model, key: &str, call: Span) -> Taken {
    let Some(owner) = model.keys.get(key).copied() else { return Taken::Free };
    if owner.ends.by <= call.inv {
        model.coverage.note("key free after its window");
        return Taken::Free;
    }
    if owner.ends.from <= call.ret || perhaps_dead(&model.messages[owner.message], call) {
        return Taken::PerhapsBy(owner.message);
    }
    Taken::By(owner.message)
}

/// Whether a message may have died by the clock, noticed or not.
fn perhaps_dead(message: &Known, call: Span) -> bool {
    let expired = message.expires.is_some_and(|end| end.from <= call.ret);
    match message.place {
        Place::InFlight(lease) => lease.from <= call.ret && (expired || message.attempts >= message.max),
        _ => expired,
    }
}
