//! What can happen to a broker, and who makes it happen.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::{Fail, Outcome, async_trait};

/// What can happen to a broker. Every state that one brings lasts until [`Faults::heal`]; what is over at once (a wipe, closed
/// connections) has happened when the order returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Killed, as by a power cut. Down until healed.
    Kill9,
    /// Stopped in order. Down until healed.
    StopGracefully,
    /// Stopped from running (SIGSTOP), connections open. Nobody answers until healed.
    Pause,
    /// All client connections closed by the broker, which stays up.
    CloseConnections,
    /// All channels within client connections closed by the broker; the connections stay.
    CloseChannels,
    /// The broker blocks whoever publishes, and serves consumers.
    Alarm,
    /// Everything on the broker is gone: messages, queues, exchanges, scripts. The broker stays up.
    Wipe,
    /// Of every queue of clients this is deleted by somebody else; what else there is of it stays.
    Delete(Part),
    /// Where ready messages lie has another name from now on, for every queue of clients.
    Rename,
    /// The consumer groups of every queue of clients are destroyed; the messages stay.
    DestroyGroups,
    /// The scripts that clients have loaded are gone; the data stays.
    FlushScripts,
    /// No more memory for data: writes are refused.
    OutOfMemory,
    /// Writes are refused: the broker follows another one.
    ReadOnly,
    /// What is written cannot be put on the disk: writes are refused.
    DiskFull,
    /// The broker's clock is so many milliseconds ahead; behind, where negative.
    ClockShift(i64),
    /// The clients' user may not do this any more.
    DenyPermission(Right),
    /// An operator's rule for every queue.
    Policy(Policy),
    /// No message, or no value, of more bytes than these.
    SizeLimit(u64),
}

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Make and delete queues.
    Configure,
    /// Publish.
    Write,
    /// Consume.
    Read,
}

/// A part of a queue, which somebody else may delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Where ready messages lie, with them.
    Ready,
    /// Where dead letters lie: until healed none can be written.
    Dead,
    /// What messages to topics reach it by.
    Routes,
}

/// What an operator may impose on queues that are not his.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// So many messages, and the oldest are dropped.
    MaxLength(u64),
    /// What is older is dropped.
    MessageTtl(Duration),
    /// A queue that is not used for so long is deleted.
    Expires(Duration),
}

/// A [`Fault`] without what it says more: what a case [needs](crate::Need::Fault) and a harness offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum FaultKind {
    Kill9,
    StopGracefully,
    Pause,
    CloseConnections,
    CloseChannels,
    Alarm,
    Wipe,
    Delete,
    Rename,
    DestroyGroups,
    FlushScripts,
    OutOfMemory,
    ReadOnly,
    DiskFull,
    ClockShift,
    DenyPermission,
    Policy,
    SizeLimit,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 18] = [
        Self::Kill9,
        Self::StopGracefully,
        Self::Pause,
        Self::CloseConnections,
        Self::CloseChannels,
        Self::Alarm,
        Self::Wipe,
        Self::Delete,
        Self::Rename,
        Self::DestroyGroups,
        Self::FlushScripts,
        Self::OutOfMemory,
        Self::ReadOnly,
        Self::DiskFull,
        Self::ClockShift,
        Self::DenyPermission,
        Self::Policy,
        Self::SizeLimit,
    ];

    /// One fault of this kind: who offers it, offers the kind.
    pub fn example(self) -> Fault {
        match self {
            Self::Kill9 => Fault::Kill9,
            Self::StopGracefully => Fault::StopGracefully,
            Self::Pause => Fault::Pause,
            Self::CloseConnections => Fault::CloseConnections,
            Self::CloseChannels => Fault::CloseChannels,
            Self::Alarm => Fault::Alarm,
            Self::Wipe => Fault::Wipe,
            Self::Delete => Fault::Delete(Part::Ready),
            Self::Rename => Fault::Rename,
            Self::DestroyGroups => Fault::DestroyGroups,
            Self::FlushScripts => Fault::FlushScripts,
            Self::OutOfMemory => Fault::OutOfMemory,
            Self::ReadOnly => Fault::ReadOnly,
            Self::DiskFull => Fault::DiskFull,
            Self::ClockShift => Fault::ClockShift(60_000),
            Self::DenyPermission => Fault::DenyPermission(Right::Write),
            Self::Policy => Fault::Policy(Policy::MaxLength(1_000)),
            Self::SizeLimit => Fault::SizeLimit(1 << 20),
        }
    }
}

impl Fault {
    /// Which kind it is of.
    pub fn kind(self) -> FaultKind {
        match self {
            Self::Kill9 => FaultKind::Kill9,
            Self::StopGracefully => FaultKind::StopGracefully,
            Self::Pause => FaultKind::Pause,
            Self::CloseConnections => FaultKind::CloseConnections,
            Self::CloseChannels => FaultKind::CloseChannels,
            Self::Alarm => FaultKind::Alarm,
            Self::Wipe => FaultKind::Wipe,
            Self::Delete(_) => FaultKind::Delete,
            Self::Rename => FaultKind::Rename,
            Self::DestroyGroups => FaultKind::DestroyGroups,
            Self::FlushScripts => FaultKind::FlushScripts,
            Self::OutOfMemory => FaultKind::OutOfMemory,
            Self::ReadOnly => FaultKind::ReadOnly,
            Self::DiskFull => FaultKind::DiskFull,
            Self::ClockShift(_) => FaultKind::ClockShift,
            Self::DenyPermission(_) => FaultKind::DenyPermission,
            Self::Policy(_) => FaultKind::Policy,
            Self::SizeLimit(_) => FaultKind::SizeLimit,
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Control over a broker.
#[async_trait]
pub trait Faults: Send + Sync {
    /// What makes it happen once it is awaited; `None` where this broker has no such fault. To ask costs and changes nothing.
    fn offer(&self, fault: Fault) -> Option<BoxFuture<'_, Outcome>>;

    /// Makes the broker well again: started, running, every fault undone, ready for clients. The runner calls it after each
    /// case too.
    async fn heal(&self) -> Outcome;

    /// Makes it happen.
    ///
    /// # Errors
    /// When it is not offered, or does not work.
    async fn apply(&self, fault: Fault) -> Outcome {
        match self.offer(fault) {
            Some(happening) => happening.await,
            None => Err(Fail::new(not_offered(fault.kind()))),
        }
    }

    /// Whether faults of this kind are offered.
    fn offers(&self, kind: FaultKind) -> bool {
        self.offer(kind.example()).is_some()
    }
}

pub(crate) fn not_offered(kind: FaultKind) -> String {
    format!("the harness does not offer {kind}")
}

/// Why there is no control over the broker, or none over the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoFaults {
    /// There is nothing to control, for this reason: the cases are not applicable.
    NotApplicable(String),
    /// The harness does not offer it: the cases are skipped, which fails the run unless allowed.
    Missing,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_an_example_of_itself() {
        for kind in FaultKind::ALL {
            assert_eq!(kind.example().kind(), kind);
        }
    }
}
