//! What can happen in a drill, in words too.

use std::fmt;
use std::time::Duration;

use super::setting::Role;
use crate::Fault;
use crate::link::Direction;
use crate::mishap::OnTheWay;

/// What can happen in a drill.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Deed {
    /// To the broker.
    Broker(Fault),
    /// To all links.
    Way(OnTheWay),
    /// One client ends as in a crash, and another takes its place.
    Crash(Role, usize),
    /// Dead letters of this queue are sent round again: no fault, an operator's work.
    Redrive(usize),
}

/// A deed that was done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) deed: Deed,
    pub(super) began: Duration,
    /// When it had happened; from then on it lasted.
    pub(super) there: Duration,
    pub(super) healed: Duration,
}

impl Deed {
    pub(super) fn is_fault(self) -> bool {
        !matches!(self, Self::Redrive(_))
    }

    /// Whether the broker may have forgotten what it had not yet written.
    pub(super) fn is_crash_of_broker(self) -> bool {
        matches!(self, Self::Broker(Fault::Kill9))
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let towards = |direction| match direction {
            Direction::ToBroker => "to the broker",
            Direction::ToClient => "to the clients",
        };
        match *self {
            Self::Broker(Fault::Kill9) => write!(f, "broker: killed"),
            Self::Broker(Fault::StopGracefully) => write!(f, "broker: stopped in order"),
            Self::Broker(Fault::Pause) => write!(f, "broker: frozen"),
            Self::Broker(Fault::CloseConnections) => write!(f, "broker: closes all connections"),
            Self::Broker(Fault::Alarm) => write!(f, "broker: blocks publishers"),
            Self::Broker(Fault::FlushScripts) => write!(f, "broker: forgets its scripts"),
            Self::Broker(Fault::OutOfMemory) => write!(f, "broker: out of memory"),
            Self::Broker(Fault::ReadOnly) => write!(f, "broker: read-only"),
            Self::Broker(other) => write!(f, "broker: {other:?}"),
            Self::Way(OnTheWay::Cut) => write!(f, "links: cut"),
            Self::Way(OnTheWay::CutAfter(way, bytes)) => {
                write!(f, "links: cut after {bytes} bytes {}", towards(way))
            }
            Self::Way(OnTheWay::Swallow(way)) => write!(f, "links: nothing passes {}", towards(way)),
            Self::Way(OnTheWay::Slow) => write!(f, "links: slow"),
            Self::Way(OnTheWay::Delay) => write!(f, "links: delayed"),
            Self::Way(OnTheWay::Refuse) => write!(f, "links: cut, and nobody listens"),
            Self::Way(OnTheWay::AcceptAndClose) => write!(f, "links: cut, and closed at once"),
            Self::Crash(Role::Producer, nth) => write!(f, "producer {nth}: killed"),
            Self::Crash(Role::Consumer, nth) => write!(f, "consumer {nth}: killed"),
            Self::Redrive(nth) => write!(f, "operator: redrives dead letters of drill-{nth}"),
        }
    }
}
