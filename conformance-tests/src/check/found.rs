//! What rules are judged by, and what they find.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::{Env, Time};

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule: `H1` to `H23`, or `H-DEF`.
    pub rule: &'static str,
    /// What happened.
    pub what: String,
    /// Where it is about nothing but lateness: when it should have happened, and by when it did not.
    pub late: Option<(Instant, Instant)>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// What counts as late, and how fine the clocks are.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// A message that waits longer than this beside an idle receiver is late. Generous in real time: a judge of every
    /// run must not mistake a busy machine for a slow backend; single cases are stricter.
    pub late: Duration,
    /// How far ends of leases may differ between the clocks of broker and test: brokers count in whole milliseconds.
    pub grain: Duration,
    /// Whether time is virtual, that is, whether between two moments nothing can have happened unseen.
    pub exact: bool,
}

impl Bounds {
    /// The bounds of a run.
    pub fn of(env: &Env) -> Self {
        match env.harness().time() {
            Time::Virtual => Self::exact(env.lateness()),
            Time::Real => Self {
                late: env.lateness() * 4 + Duration::from_secs(2),
                grain: Duration::from_millis(2),
                exact: false,
            },
        }
    }

    /// The bounds where time is virtual.
    pub fn exact(late: Duration) -> Self {
        Self { late, grain: Duration::ZERO, exact: true }
    }
}

/// The broken rules found so far.
#[derive(Debug, Default)]
pub(super) struct Found(pub(super) Vec<Violation>);

impl Found {
    pub(super) fn add(&mut self, rule: &'static str, what: String) {
        self.0.push(Violation { rule, what, late: None });
    }

    pub(super) fn add_late(&mut self, rule: &'static str, what: String, due: Instant, seen: Instant) {
        self.0.push(Violation { rule, what, late: Some((due, seen)) });
    }
}
