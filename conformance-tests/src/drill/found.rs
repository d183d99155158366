//! What a judge needs beside the ledger, and what it finds.

use std::time::Duration;

use super::deed::Done;
use super::ledger::Pages;
use super::report::Violation;

/// How soon everything works again when a fault is over: S-FLT-1.
pub(super) const RECOVERY: Duration = Duration::from_secs(5);

/// What a judge is shown.
pub(super) struct Evidence<'a> {
    pub(super) pages: &'a Pages,
    /// Faults and deeds, in their order.
    pub(super) deeds: &'a [Done],
    /// When messages flowed on every queue.
    pub(super) flows: Duration,
    /// When nobody looked any more.
    pub(super) ended: Duration,
    /// How many consumers there were.
    pub(super) consumers: usize,
    pub(super) producers: usize,
    /// See [`Site::holds_by_connection`](super::Site::holds_by_connection).
    pub(super) holds_by_connection: bool,
    pub(super) ack_window: Duration,
    /// See [`Info::atomic_moves`](polyqueue::Info::atomic_moves).
    pub(super) atomic_moves: bool,
    /// How far clocks may differ.
    pub(super) grain: Duration,
    /// By how much more than usual the machine was late between these two.
    pub(super) slowness: &'a dyn Fn(Duration, Duration) -> Duration,
}

impl Evidence<'_> {
    pub(super) fn faults(&self) -> impl Iterator<Item = &Done> {
        self.deeds.iter().filter(|done| done.deed.is_fault())
    }

    /// Whether a fault, or what one left behind, may have been felt between these two.
    pub(super) fn disturbed(&self, from: Duration, to: Duration) -> bool {
        self.felt(from, to) > 0
    }

    /// How many faults, or what they left behind, may have been felt between these two.
    pub(super) fn felt(&self, from: Duration, to: Duration) -> usize {
        self.faults().filter(|fault| fault.began <= to && fault.healed + RECOVERY >= from).count()
    }

    /// The longest times without a fault and what it leaves behind.
    pub(super) fn calms(&self) -> Vec<(Duration, Duration)> {
        let mut calms = Vec::new();
        let mut from = self.flows;
        for fault in self.faults() {
            if fault.began > from {
                calms.push((from, fault.began));
            }
            from = from.max(fault.healed);
        }
        calms.push((from, self.ended.max(from)));
        calms
    }
}

/// What is broken.
#[derive(Debug, Default)]
pub(super) struct Found(pub(super) Vec<Violation>);

impl Found {
    pub(super) fn add(&mut self, rule: &'static str, at: Duration, what: String) {
        self.add_with(rule, at, what, Vec::new());
    }

    /// The same, with what is known of it.
    pub(super) fn add_with(&mut self, rule: &'static str, at: Duration, what: String, life: Vec<String>) {
        self.0.push(Violation { rule, at_ms: at.as_millis() as u64, what, life });
    }
}
