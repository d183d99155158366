//! The command line and the environment of a run.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use libtest_mimic::Arguments;

/// What a run was asked to do.
#[derive(Debug)]
pub(crate) struct Options {
    /// Only cases whose id or name contains one of these; all when empty.
    pub(crate) filters: Vec<String>,
    /// Where to write the report.
    pub(crate) report: Option<String>,
    /// Skips that do not fail the run: id and reason.
    pub(crate) allowed_skips: Vec<(String, String)>,
    /// How often each case runs, all repetitions in parallel.
    pub(crate) stress: u32,
    /// The largest L by which anything is judged.
    pub(crate) patience: Duration,
    /// The seed of the run.
    pub(crate) seed: u64,
    /// What the test runner itself understands.
    pub(crate) runner: Arguments,
}

impl Options {
    /// What this process was started with.
    pub(crate) fn of_process() -> Result<Self, String> {
        Self::parse(std::env::args().collect(), |name| std::env::var(name).ok())
    }

    fn parse(args: Vec<String>, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let number = |name: &str| match variable(name).filter(|text| !text.is_empty()) {
            Some(text) => {
                text.parse::<u64>().map(Some).map_err(|_| format!("{name}={text}: a number is expected"))
            }
            None => Ok(None),
        };
        let stress = number("CONFORMANCE_STRESS")?.unwrap_or(1).clamp(1, 1000) as u32;
        let seed = number("SEED")?.unwrap_or_else(|| RandomState::new().hash_one("seed") >> 32);
        let patience = Duration::from_millis(number("CONFORMANCE_PATIENCE_MS")?.unwrap_or(250));
        let (mut filters, mut allowed_skips, mut report) = (Vec::new(), Vec::new(), None);
        let mut rest = Vec::new();
        let mut args = args.into_iter();
        rest.extend(args.next());
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--report" => report = Some(args.next().ok_or("--report wants a file")?),
                "--allow-skip" => {
                    let allowed = args.next().ok_or("--allow-skip wants ID=REASON")?;
                    let (id, reason) = allowed.split_once('=').ok_or("--allow-skip wants ID=REASON")?;
                    allowed_skips.push((id.into(), reason.into()));
                }
                _ if TAKES_VALUE.contains(&arg.as_str()) => {
                    rest.extend([Some(arg), args.next()].into_iter().flatten())
                }
                _ if arg.starts_with('-') => rest.push(arg),
                _ => filters.push(arg),
            }
        }
        let mut runner = Arguments::from_iter(rest);
        runner.test_threads = runner.test_threads.or(Some(8));
        Ok(Self { filters, report, allowed_skips, stress, patience, seed, runner })
    }

    /// Whether a case of this id and name is asked for.
    pub(crate) fn wants(&self, title: &str) -> bool {
        let wanted =
            |filter: &String| if self.runner.exact { title == *filter } else { title.contains(&**filter) };
        self.filters.is_empty() || self.filters.iter().any(wanted)
    }
}

/// Options of the test runner whose value is an argument of its own.
const TAKES_VALUE: &[&str] = &["--test-threads", "--logfile", "--skip", "--color", "--format", "-Z"];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, String> {
        let args = std::iter::once("program").chain(args.iter().copied()).map(Into::into).collect();
        Options::parse(args, |name| (name == "SEED").then(|| "7".into()))
    }

    #[test]
    fn several_filters_and_our_own_options_stand_beside_those_of_the_runner() {
        let options = parse(&["C-PRI", "--test-threads", "2", "C-DLY-05", "--report", "out.json"]).unwrap();
        assert_eq!(options.runner.test_threads, Some(2));
        assert_eq!((options.report.as_deref(), options.seed), (Some("out.json"), 7));
        assert!(options.wants("C-PRI-03 x") && options.wants("C-DLY-05 y") && !options.wants("C-DLY-06 z"));
    }

    #[test]
    fn a_skip_is_allowed_by_id_and_reason() {
        let options = parse(&["--allow-skip", "C-FLT-01=no broker of its own"]).unwrap();
        assert_eq!(options.allowed_skips, [("C-FLT-01".into(), "no broker of its own".into())]);
        assert!(parse(&["--allow-skip", "C-FLT-01"]).is_err());
    }
}
