//! Which message has which dedup key.

use std::collections::BTreeMap;

use polyqueue::{Message, Published};

use super::receive::name;
use super::state::{Judgement, Known, Model, Owner, Place, Span};

/// Whether a key is taken during a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Taken {
    Free,
    By(usize),
    /// It becomes free about now, or has, if the backend has noticed.
    PerhapsBy(usize),
}

impl Model {
    /// Judges the answers to a publish, one by one, and stores what was stored.
    pub(super) fn publish(&mut self, call: Span, batch: &[Message], answers: &[Published]) -> Judgement {
        self.coverage.note_if(batch.len() > 1, "batch published");
        self.turn_over(call.ret);
        for (message, answer) in batch.iter().zip(answers) {
            if answer.id != *message.id() {
                return Err(format!("publish of {} answered {}", message.id(), answer.id));
            }
            let taken = message.dedup_key().map_or(Taken::Free, |key| self.taken(key, call));
            match (&answer.duplicate_of, taken) {
                (None, Taken::Free | Taken::PerhapsBy(_)) => {}
                (Some(first), Taken::By(owner) | Taken::PerhapsBy(owner)) => {
                    self.is_first(first, owner)?;
                    continue;
                }
                (None, Taken::By(owner)) => return Err(format!("stored beside {}, of one key", name(owner))),
                (Some(first), Taken::Free) => {
                    return Err(format!("called a duplicate of {first}, but its key is free"));
                }
            }
            self.store(call, message);
            if let Some(key) = message.dedup_key() {
                let ends = self.after(call, self.rules.dedup.window);
                self.keys.insert(key.into(), Owner { message: self.messages.len() - 1, ends });
            }
        }
        Ok(())
    }

    fn is_first(&mut self, first: &polyqueue::MessageId, owner: usize) -> Judgement {
        if self.messages[owner].sent.id() != first {
            return Err(format!("called a duplicate of {first}, not of {}", name(owner)));
        }
        // It answered Ok, and so was published; nothing of it was stored.
        self.done.published += 1;
        self.done.duplicates += 1;
        self.coverage.note("duplicate not stored");
        let back = self.messages[owner].retries > 0;
        self.coverage.note_if(back, "duplicate of a message that was retried");
        Ok(())
    }

    fn taken(&mut self, key: &str, call: Span) -> Taken {
        let Some(owner) = self.keys.get(key).copied() else { return Taken::Free };
        if owner.ends.by <= call.inv {
            self.coverage.note("key free after its window");
            return Taken::Free;
        }
        if owner.ends.from <= call.ret || perhaps_dead(&self.messages[owner.message], call) {
            return Taken::PerhapsBy(owner.message);
        }
        Taken::By(owner.message)
    }

    /// A message has come to its end: its key is free, if it has one; whether it had.
    pub(super) fn free(&mut self, message: usize) -> bool {
        let before = self.keys.len();
        let keys: &mut BTreeMap<String, Owner> = &mut self.keys;
        keys.retain(|_, owner| owner.message != message);
        keys.len() < before
    }
}

/// Whether a message may have died by the clock, noticed or not.
fn perhaps_dead(message: &Known, call: Span) -> bool {
    let expired = message.expires.is_some_and(|end| end.from <= call.ret);
    match message.place {
        Place::Held(hold) => hold.from <= call.ret && (expired || message.attempts >= message.max),
        _ => expired,
    }
}
