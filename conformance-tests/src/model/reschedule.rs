//! What a change of time answers, and what it does.

use polyqueue::Reschedule;

use super::message::{Kind, Place, Span, name};
use super::state::{Judgement, Model};
use super::time::pass;

/// Judges the answer to a change of time: only what waits for its time can be changed.
pub(super) fn judge(model: &mut Model, call: Span, message: usize, to: Reschedule, done: bool) -> Judgement {
    pass(model, call.inv);
    let place = model.messages[message].place;
    if done != matches!(place, Place::Delayed(..)) {
        return Err(format!("{} is {place:?}, and was rescheduled: {done}", name(message)));
    }
    match to {
        _ if !done => {}
        Reschedule::Cancel => {
            model.coverage.note("cancelled");
            model.messages[message].place = Place::Gone;
            model.free(message);
        }
        Reschedule::After(after) => {
            model.coverage.note("rescheduled");
            model.messages[message].place = model.waiting(call, after, Kind::Again, Kind::Again);
        }
    }
    Ok(())
}
