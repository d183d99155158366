//! What can happen between clients and a broker without anything being lost that was confirmed.

use std::time::Duration;

use crate::link::{Direction, Link};
use crate::{Fault, Rng};

/// What can happen to a broker, after which nothing that was confirmed may be missing.
pub(crate) const OF_THE_BROKER: &[Fault] = &[
    Fault::Kill9,
    Fault::StopGracefully,
    Fault::Pause,
    Fault::CloseConnections,
    Fault::Alarm,
    Fault::FlushScripts,
    Fault::OutOfMemory,
    Fault::ReadOnly,
];

/// What can happen on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnTheWay {
    Cut,
    CutAfter(Direction, u64),
    Swallow(Direction),
    Slow,
    Delay,
    Refuse,
    AcceptAndClose,
}

impl OnTheWay {
    pub(crate) fn any(rng: &mut Rng) -> Self {
        let direction = if rng.chance(0.5) { Direction::ToBroker } else { Direction::ToClient };
        match rng.below(7) {
            0 => Self::Cut,
            1 => Self::CutAfter(direction, rng.below(5_000)),
            2 => Self::Swallow(direction),
            3 => Self::Slow,
            4 => Self::Delay,
            5 => Self::Refuse,
            _ => Self::AcceptAndClose,
        }
    }

    pub(crate) fn happen(self, link: &dyn Link) {
        match self {
            Self::Cut => link.cut(),
            Self::CutAfter(direction, bytes) => link.cut_after(direction, bytes),
            Self::Swallow(direction) => link.swallow(direction),
            Self::Slow => link.slow(20_000),
            Self::Delay => link.delay(Duration::from_millis(100)),
            Self::Refuse => {
                link.refuse();
                link.cut();
            }
            Self::AcceptAndClose => {
                link.accept_and_close();
                link.cut();
            }
        }
    }
}
