//! What an extension must answer, and what it does.

use std::time::Duration;

use polyqueue::Extended;

use super::message::{Lease, Place, Span, name};
use super::standing::{Standing, standing};
use super::state::{Judgement, Model};

/// Judges the answer to an extension, and applies it.
pub(super) fn judge(
    model: &mut Model,
    call: Span,
    consumer: usize,
    delivery: usize,
    answer: Extended,
) -> Judgement {
    let message = model.deliveries[delivery].message;
    let standing = standing(model, delivery, consumer, call);
    match (answer, standing) {
        (Extended::Until(until), Standing::Leased(lease) | Standing::Ending(lease)) => {
            let (from, over) = (call.inv + model.rules.lease, call.ret + model.rules.lease);
            let grain = model.rules.grain;
            if until + grain < from || until > over + grain {
                let left = until.saturating_duration_since(call.ret);
                return Err(format!("{} was extended until {left:?} from now", name(message)));
            }
            model.coverage.note("lease extended");
            let by = over + model.rules.late;
            let longer = Lease { from: until - grain, over: over + grain, by, extended: true, ..lease };
            model.deliveries[delivery].known_end = longer.from;
            model.messages[message].place = Place::InFlight(longer);
            Ok(())
        }
        (Extended::LeaseLost, Standing::Ending(lease)) => {
            let ended = Lease { over: call.ret, by: call.ret, ..lease };
            model.messages[message].place = Place::InFlight(ended);
            Ok(())
        }
        (Extended::LeaseLost, Standing::Lost | Standing::Settled { .. }) => {
            let stale = model.deliveries[delivery].consumer == consumer;
            model.coverage.note_if(stale, "stale lease not extended");
            Ok(())
        }
        (Extended::LeaseLost, Standing::Leased(lease)) => {
            let left: Duration = lease.from - call.ret;
            Err(format!("the lease of {} was lost {left:?} before its end", name(message)))
        }
        (Extended::Until(_), _) => Err(format!("{} was extended by a receipt that is stale", name(message))),
    }
}
