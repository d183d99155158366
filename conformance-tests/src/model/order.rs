//! Which of the ready messages must be handed out first.

use super::message::{Kind, Place, Ready, name};
use super::state::{Judgement, Model};

/// Whether nothing that is ready should have come before it.
pub(super) fn in_order(model: &mut Model, at: usize) -> Judgement {
    let priority = model.messages[at].envelope.priority;
    let it = match model.messages[at].place {
        Place::Ready(ready) => ready,
        // Only just ready: at the latest behind all that were ready then.
        Place::Delayed(due, kind) => {
            Ready { kind, turns: (model.turn_at(due.from), u64::MAX), due: Some(due), since: due.by }
        }
        Place::InFlight(lease) => {
            let turns = (model.turn_at(lease.from), u64::MAX);
            Ready { kind: Kind::Again, turns, due: None, since: lease.by }
        }
        Place::Dead | Place::Gone => return Ok(()),
    };
    let (mut lower, mut equal, mut several) = (false, false, false);
    for (other, message, ready) in model.ready().filter(|(other, ..)| *other != at) {
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
    model.coverage.note_if(lower, "two priorities compared");
    model.coverage.note_if(equal, "two of one priority compared");
    model.coverage.note_if(several, "several due at one moment");
    Ok(())
}

/// Whether, of two messages of one priority, this one must be handed out before that one.
fn precedes((at, this): (usize, Ready), (other_at, that): (usize, Ready)) -> bool {
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
