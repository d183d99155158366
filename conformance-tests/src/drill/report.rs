//! What a drill came to: for people, and as JSON.

use std::fmt;

use serde::Serialize;

/// What a drill came to.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it; docs/drill.md says what each counts")]
#[non_exhaustive]
pub struct Report {
    pub backend: &'static str,
    /// Where everything was; deleted afterwards.
    pub namespace: String,
    pub seed: u64,
    pub lasted_ms: u64,
    /// It was told to end before its time.
    pub stopped: bool,
    pub producers: usize,
    pub consumers: usize,
    /// What was done to the broker, the links and the clients.
    pub faults: u64,
    pub published: u64,
    /// Publishes with an error after which the message may be there or not.
    pub unknown: u64,
    pub delivered: u64,
    pub acked: u64,
    pub dead: u64,
    pub duplicates: u64,
    pub unexplained: u64,
    pub lost: u64,
    pub after_ack: u64,
    pub early: u64,
    pub double_holders: u64,
    pub late: u64,
    pub silent: u64,
    /// Errors that do not pass, and messages that nobody published.
    pub other: u64,
    /// From the end of a fault to the first new message on the last queue.
    pub slowest_recovery_ms: Option<u64>,
    pub slowest_recovery_after: Option<String>,
    pub timeline: Vec<Happened>,
    pub violations: Vec<Violation>,
}

/// One line of the time line.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
#[non_exhaustive]
pub struct Happened {
    pub at_ms: u64,
    pub what: String,
    pub lasted_ms: u64,
    /// How long after its end every queue worked again; `None` where the next one came before.
    pub recovered_ms: Option<u64>,
}

/// A broken promise.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Violation {
    /// Which: `lost`, `after_ack`, `early`, `double_holder`, `late`, `silent`, `duplicate`, `unexpected` or `error`.
    pub rule: &'static str,
    /// When, since the drill began.
    pub at_ms: u64,
    /// What happened.
    pub what: String,
    /// All that is known of the message, or of what a producer tried meanwhile, a line each.
    pub life: Vec<String>,
}

impl Report {
    /// Whether every promise was kept, and something was tried.
    pub fn passed(&self) -> bool {
        self.violations.is_empty() && self.published > 0
    }

    pub(super) fn broken(violations: &[Violation], rule: &str) -> u64 {
        violations.iter().filter(|violation| violation.rule == rule).count() as u64
    }
}

fn seconds(ms: u64) -> String {
    format!("{:.2} s", ms as f64 / 1000.0)
}

/// Violations that are shown to people; all of them stand in the JSON.
const SHOWN: usize = 20;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, seed, producers, consumers, faults, .. } = self;
        let stopped = if self.stopped { ", stopped before its time" } else { "" };
        writeln!(
            f,
            "drill on {backend}, seed {seed}: {faults} faults in {}{stopped}",
            seconds(self.lasted_ms)
        )?;
        writeln!(f, "  {producers} producers, {consumers} consumers")?;
        writeln!(f, "\ntime line")?;
        for it in &self.timeline {
            let recovered = it.recovered_ms.map(|ms| format!(", works again after {}", seconds(ms)));
            let lasted = format!("for {}", seconds(it.lasted_ms));
            writeln!(f, "{:>10}  {} {lasted}{}", seconds(it.at_ms), it.what, recovered.unwrap_or_default())?;
        }
        writeln!(f, "\nmessages")?;
        for (what, count) in [
            ("published", self.published),
            ("unknown", self.unknown),
            ("delivered", self.delivered),
            ("acked", self.acked),
            ("dead", self.dead),
            ("duplicates", self.duplicates),
        ] {
            writeln!(f, "  {what:14} {count:>8}")?;
        }
        if let (Some(ms), Some(after)) = (self.slowest_recovery_ms, &self.slowest_recovery_after) {
            writeln!(f, "  slowest recovery {}, after {after}", seconds(ms))?;
        }
        writeln!(f, "\nbroken promises")?;
        for (what, count) in [
            ("lost", self.lost),
            ("after an ack", self.after_ack),
            ("early", self.early),
            ("two holders", self.double_holders),
            ("late", self.late),
            ("silent", self.silent),
            ("unexplained", self.unexplained),
            ("other", self.other),
        ] {
            writeln!(f, "  {what:14} {count:>8}")?;
        }
        for it in self.violations.iter().take(SHOWN) {
            writeln!(f, "  {:>8}  {}: {}", seconds(it.at_ms), it.rule, it.what)?;
        }
        let more = self.violations.len().saturating_sub(SHOWN);
        if more > 0 {
            writeln!(f, "  … and {more} more; -o json has them all")?;
        }
        write!(f, "\n{}", if self.passed() { "every promise was kept" } else { "FAILED" })
    }
}
