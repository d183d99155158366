//! What a run came to: the summary in words, and the same as JSON.

use std::time::Duration;

use serde::Serialize;

/// A run of which more cases than these were too slow to judge ends as on an unfit machine.
const MOST_TOO_SLOW: usize = 3;

/// What became of one case.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    pub(crate) statements: &'static [&'static str],
    pub(crate) end: End,
    /// Why, where it did not simply pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    pub(crate) millis: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    Passed,
    Failed,
    /// Something came late while the machine was slow: neither passed nor failed.
    TooSlow,
    /// Failed, as `deviations.toml` says it does.
    Declared,
    NotApplicable,
    Skipped,
    /// Skipped, as the command line allows.
    SkipAllowed,
}

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) harness: &'static str,
    pub(crate) seed: u64,
    pub(crate) lateness_ms: u64,
    pub(crate) badge: String,
    pub(crate) cases: Vec<Row>,
}

impl Report {
    pub(crate) fn new(
        harness: &'static str,
        seed: u64,
        lateness: Duration,
        full: bool,
        cases: Vec<Row>,
    ) -> Self {
        let count = |end| cases.iter().filter(|row| row.end == end).count();
        let (passed, declared) = (count(End::Passed), count(End::Declared));
        let slow = count(End::TooSlow);
        let run = passed + declared + slow + count(End::Failed);
        let beside = |n: usize, what: &str| if n > 0 { format!(", {n} {what}") } else { String::new() };
        let (declared, slow) = (beside(declared, "declared"), beside(slow, "too slow to judge"));
        let badge = format!("{passed}/{run}{declared}{slow} ({})", if full { "full" } else { "functional" });
        Self { harness, seed, lateness_ms: lateness.as_millis() as u64, badge, cases }
    }

    /// Whether the run may be called green.
    pub(crate) fn good(&self) -> bool {
        !self.cases.iter().any(|row| matches!(row.end, End::Failed | End::Skipped))
    }

    /// Whether so many cases could not be judged that the run proves nothing.
    pub(crate) fn unfit(&self) -> bool {
        self.cases.iter().filter(|row| row.end == End::TooSlow).count() > MOST_TOO_SLOW
    }

    pub(crate) fn print(&self) {
        for row in &self.cases {
            let why = row.why.as_deref().unwrap_or_default();
            match row.end {
                End::NotApplicable => println!("not applicable {}: {why}", row.id),
                End::Skipped | End::SkipAllowed => println!("SKIP {}: {why}", row.id),
                End::Declared => println!("declared deviation {}: {why}", row.id),
                End::TooSlow => println!("too slow to judge {}: {why}", row.id),
                End::Failed => println!("FAILED {} {}: {why}", row.id, row.name),
                End::Passed => {}
            }
        }
        let count = |end| self.cases.iter().filter(|row| row.end == end).count();
        println!(
            "{}: {} · {} failed · {} not applicable · {} skipped · seed {} · L {} ms",
            self.harness,
            self.badge,
            count(End::Failed),
            count(End::NotApplicable),
            count(End::Skipped) + count(End::SkipAllowed),
            self.seed,
            self.lateness_ms
        );
    }

    pub(crate) fn write(&self, file: &str) -> Result<(), String> {
        let json = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        std::fs::write(file, json).map_err(|error| format!("{file}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(end: End) -> Row {
        Row { id: "C-XXX-01", name: "", statements: &[], end, why: None, millis: 0 }
    }

    fn report(ends: &[End]) -> Report {
        Report::new("x", 1, Duration::ZERO, true, ends.iter().map(|&end| row(end)).collect())
    }

    #[test]
    fn only_failures_and_unallowed_skips_are_not_green() {
        use End::*;
        assert!(report(&[Passed, Declared, NotApplicable, SkipAllowed]).good());
        assert!(!report(&[Passed, Failed]).good());
        assert!(!report(&[Passed, Skipped]).good());
        assert_eq!(report(&[Passed, Declared, NotApplicable]).badge, "1/2, 1 declared (full)");
    }

    #[test]
    fn three_may_be_too_slow_to_judge_and_are_shown() {
        use End::*;
        let three = report(&[Passed, TooSlow, TooSlow, TooSlow]);
        assert!(three.good() && !three.unfit());
        assert_eq!(three.badge, "1/4, 3 too slow to judge (full)");
        let four = report(&[TooSlow; 4]);
        assert!(four.good() && four.unfit());
    }
}
