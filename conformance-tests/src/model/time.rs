//! What time alone does to messages: delays pass, leases end, what is too old is dead.

use polyqueue::DeadReason;
use tokio::time::Instant;

use super::message::{Kind, Lease, Place, Ready, Window};
use super::state::Model;

/// Applies what surely has happened by itself. Only calls that look at the queue need to see it: a backend may leave it
/// undone until then, so that what was published meanwhile may stand before it.
pub(super) fn pass(model: &mut Model, now: Instant) {
    model.turn_over(now);
    for at in 0..model.messages.len() {
        if let Place::InFlight(lease) = model.messages[at].place
            && lease.by <= now
        {
            lease_ends(model, at, lease);
        }
        expire(model, at, now);
        match model.messages[at].place {
            Place::Delayed(due, kind) if due.by <= now => {
                let turns = (model.turn_at(due.from), model.turn());
                let ready = Ready { kind, turns, due: Some(due), since: due.by };
                model.messages[at].place = Place::Ready(ready);
            }
            _ => {}
        }
    }
}

/// What waits longer than its time to live is dead. A lease that runs is not ended.
fn expire(model: &mut Model, at: usize, now: Instant) {
    let Some(died) = model.messages[at].expires.filter(|end| end.by <= now) else { return };
    let what = match model.messages[at].place {
        Place::Ready(_) => "expired while ready",
        Place::Delayed(..) => "expired while delayed",
        _ => return,
    };
    model.coverage.note(what);
    model.dead_letter(at, &[DeadReason::Expired], Some("expired".into()), died);
}

fn lease_ends(model: &mut Model, at: usize, lease: Lease) {
    let died = Window { from: lease.from, by: lease.by };
    let expired = model.messages[at].expires_by(lease.by);
    let last = model.messages[at].attempts >= model.messages[at].max;
    match (expired, last) {
        (true, true) => {
            return model.dead_letter(at, &[DeadReason::Expired, DeadReason::MaxAttempts], None, died);
        }
        (true, false) => {
            model.coverage.note("lease ended past the end of its message");
            return model.dead_letter(at, &[DeadReason::Expired], None, died);
        }
        (false, true) => {
            model.coverage.note("died of its last lease");
            return model.dead_letter(at, &[DeadReason::MaxAttempts], None, died);
        }
        (false, false) => {}
    }
    model.coverage.note("lease ended");
    model.coverage.note_if(lease.extended, "extended lease ended");
    let turns = (model.turn_at(lease.from), model.turn());
    let ready = Ready { kind: Kind::Again, turns, due: None, since: lease.by };
    model.messages[at].place = Place::Ready(ready);
}
