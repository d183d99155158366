//! One case: what is promised, and the code that tries it.

use futures_util::future::BoxFuture;

use crate::{Env, FaultKind, Outcome};

/// One case of the suite.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its number, for example `C-PUB-01`.
    pub id: &'static str,
    /// What it shows, in a few words.
    pub name: &'static str,
    /// The statements of [semantics.md](https://github.com/polyqueue/polyqueue/blob/main/docs/semantics.md) that it checks.
    pub statements: &'static [&'static str],
    /// What kind of promise it tries.
    pub kind: Kind,
    /// What the backend or the harness must have for it to mean anything.
    pub needs: &'static [Need],
    /// The code.
    pub body: fn(Env) -> BoxFuture<'static, Outcome>,
}

/// What kind of promise a case tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something bad never happens. Has no tolerance.
    Safety,
    /// Something good happens in time, within the calibrated bound.
    Liveness,
    /// Both.
    Both,
}

/// What a case needs beyond a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Messages survive the end of the broker's process.
    Durable,
    /// Other processes can join.
    Shared,
    /// Control over the broker's process: killed, stopped, paused, and started again.
    Faults,
    /// A fault of this kind, whatever else the harness offers.
    Fault(FaultKind),
    /// A link between client and broker that can be cut, slowed and silenced.
    Link,
    /// Not even a queue: the case tries a pure function, so that it makes no call that could be recorded.
    Nothing,
    /// Some minutes instead of one, and the machine for itself: a generator that goes through many histories.
    Minutes,
    /// Virtual time: nothing is left to a clock, so that one answer is right.
    VirtualTime,
    /// Real time.
    RealTime,
    /// A backend that can reschedule: one that answers `Unsupported` need not.
    Reschedule,
    /// A broker that can say what it uses.
    Footprint,
    /// A backend that takes a store for dedup keys: one that keeps them itself need not.
    DedupStore,
}

impl Need {
    /// Whether the case does something to the broker itself, which disturbs whatever runs beside it.
    pub(crate) fn is_of_faults(self) -> bool {
        matches!(self, Self::Faults | Self::Fault(_))
    }
}

/// A row of a table of cases: `case!("C-PUB-01", "every field arrives", ["S-DEL-5"], Both, [], every_field_arrives)`. What it
/// needs: `[Link, Fault(Alarm)]`.
#[macro_export]
macro_rules! case {
    ($id:literal, $name:literal, [$($statement:literal),* $(,)?], $kind:ident, [$($need:ident $(($kind_of_fault:ident))?),* $(,)?], $body:path) => {
        $crate::Case {
            id: $id,
            name: $name,
            statements: &[$($statement),*],
            kind: $crate::Kind::$kind,
            needs: &[$($crate::Need::$need $(($crate::FaultKind::$kind_of_fault))?),*],
            body: |env| ::std::boxed::Box::pin($body(env)),
        }
    };
}
