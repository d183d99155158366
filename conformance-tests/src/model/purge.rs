//! How many messages a purge removes.

use polyqueue::Purge;

use super::message::{Place, Span};
use super::state::{DeadLettered, Judgement, Model};
use super::stats::counts;
use super::time::pass;

/// Whether somewhere something may happen by itself during this call, so that nobody can tell how it ended.
pub(super) fn unsure(model: &Model, call: Span) -> bool {
    !model.windows().all(|window| call.ret < window.from || window.by <= call.inv)
}

/// Judges how many a purge removed, and removes them.
pub(super) fn judge(model: &mut Model, call: Span, what: Purge, removed: u64) -> Judgement {
    pass(model, call.inv);
    if what == Purge::Dead {
        model.coverage.note_if(!model.dead.is_empty(), "purge of dead letters");
        let dead: Vec<DeadLettered> = std::mem::take(&mut model.dead);
        dead.iter().for_each(|dead_letter| model.messages[dead_letter.message].place = Place::Gone);
        return as_many(removed, dead.len() as u64);
    }
    let all = counts(model, call);
    let counts_delayed = model.counts_delayed.unwrap_or(true);
    model.coverage.note_if(all.delayed.surely > 0, "purge with delayed");
    model.coverage.note_if(all.in_flight.surely > 0, "purge with messages in flight");
    let mut gone = 0;
    for at in 0..model.messages.len() {
        let goes = match model.messages[at].place {
            Place::Ready(_) => true,
            Place::Delayed(..) => counts_delayed,
            _ => false,
        };
        if goes {
            model.messages[at].place = Place::Gone;
            let freed = model.free(at);
            model.coverage.note_if(freed, "key freed by a purge");
            gone += 1;
        }
    }
    as_many(removed, gone)
}

fn as_many(removed: u64, due: u64) -> Judgement {
    if removed == due { Ok(()) } else { Err(format!("the purge removed {removed}, not {due}")) }
}
