//! Whose message a receipt names.

use super::message::{Lease, Place, Span};
use super::state::Model;

/// Whose message a receipt names at the time of a call.
pub(super) enum Standing {
    /// Its holder's.
    Leased(Lease),
    /// Either its holder's or nobody's: the lease ends about now.
    Ending(Lease),
    /// Not its holder's any more.
    Lost,
    /// A verdict was given, whose memory may have ended with the lease.
    Settled { remembered: bool },
}

pub(super) fn standing(model: &Model, delivery: usize, consumer: usize, call: Span) -> Standing {
    let it = &model.deliveries[delivery];
    if it.consumer != consumer {
        return Standing::Lost;
    }
    if it.settled {
        return Standing::Settled { remembered: call.ret < it.known_end };
    }
    match model.messages[it.message].place {
        Place::InFlight(lease) if lease.delivery != delivery => Standing::Lost,
        Place::InFlight(lease) if call.ret < lease.from => Standing::Leased(lease),
        Place::InFlight(lease) if call.inv < lease.over => Standing::Ending(lease),
        _ => Standing::Lost,
    }
}
