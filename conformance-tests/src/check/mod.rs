//! Judges a history: rules that hold for every run of every correct backend, whatever the case was about.
//!
//! A rule never raises an alarm on a correct backend: where the history does not show enough (a fault, a dropped call, a
//! message published twice), it says nothing.

mod attempts;
mod content;
mod early;
mod holders;
mod keys;
mod lifetime;
mod loss;
mod order;
mod progress;
mod replies;
mod terminal;
#[cfg(test)]
mod tests;
mod view;

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use self::view::View;
use crate::history::History;
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

/// Every broken rule of a history.
pub fn all(history: &History, bounds: &Bounds) -> Vec<Violation> {
    let view = View::of(history);
    let mut found = Found::default();
    for rule in [
        loss::check,
        terminal::check,
        early::check,
        attempts::check,
        content::check,
        holders::check,
        order::check,
        progress::check,
        lifetime::check,
        keys::check,
        replies::check,
    ] {
        rule(&view, bounds, &mut found);
    }
    found.0
}

/// The broken rules found so far.
#[derive(Debug, Default)]
struct Found(Vec<Violation>);

impl Found {
    fn add(&mut self, rule: &'static str, what: String) {
        self.0.push(Violation { rule, what, late: None });
    }

    fn add_late(&mut self, rule: &'static str, what: String, due: Instant, seen: Instant) {
        self.0.push(Violation { rule, what, late: Some((due, seen)) });
    }
}
