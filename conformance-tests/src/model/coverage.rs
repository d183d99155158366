//! What programs have tried, counted: a rule that was never reached was not tested.

use std::collections::BTreeMap;
use std::fmt;

/// How often each situation was met.
#[derive(Clone, Debug, Default)]
pub struct Coverage(BTreeMap<&'static str, u64>);

/// What a generator must have reached, all of it in both kinds of time.
pub(super) const OBLIGATIONS: &[&str] = &[
    "two priorities compared",
    "two of one priority compared",
    "as many as asked for, and more ready",
    "batch published",
    "bad batch refused",
    "empty receive",
    "delay due during a receive",
    "delay due before a receive",
    "retry came back after its wait",
    "wait at the cap of the policy",
    "last attempt failed",
    "message's own maximum reached",
    "released message came back",
    "rejected",
    "stale receipt used",
    "second verdict given",
    "receipt used elsewhere",
    "batch of verdicts",
    "batch of verdicts with a failing item",
    "lease extended",
    "lease ended",
    "stale lease not extended",
    "purge with delayed",
    "purge with messages in flight",
    "stats of every place at once",
    "dead letters listed over several pages",
    "redriven",
    "redriven twice",
    "redriven message came back",
    "discarded",
    "duplicate not stored",
    "key freed by a death",
    "key freed by an ack",
];

/// What only a generator reaches that may wait as long as it likes.
pub(super) const PATIENT: &[&str] = &[
    "several due at one moment",
    "lease ended during a receive",
    "extended lease ended",
    "died of its last lease",
    "died again after a redrive",
    "purge of dead letters",
    "duplicate of a message that was retried",
    "key freed by a purge",
    "key free after its window",
    "expired while ready",
    "expired while delayed",
    "retried past its end",
    "released past its end",
    "lease ended past the end of its message",
    "rescheduled",
    "cancelled",
];

impl Coverage {
    pub(super) fn note(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub(super) fn note_if(&mut self, condition: bool, what: &'static str) {
        if condition {
            self.note(what);
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            *self.0.entry(what).or_default() += times;
        }
    }

    /// Which of these were met less often than that.
    pub(super) fn missing(&self, obligations: &[&'static str], least: u64) -> Vec<String> {
        let times = |what: &str| self.0.get(what).copied().unwrap_or_default();
        let rare = obligations.iter().filter(|what| times(what) < least);
        rare.map(|what| format!("{what}: {} of {least}", times(what))).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(what, times)| writeln!(f, "  {times:>7}  {what}"))
    }
}
