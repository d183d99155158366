//! Runs the cases on a harness: what a test binary's `main` calls.

mod calibrate;
mod child;
mod control;
mod deviations;
mod gate;
mod one;
mod options;
mod progress;
mod report;

use std::collections::HashSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use parking_lot::Mutex;
use polyqueue::Info;

use self::calibrate::{Calibrated, Measured, calibrate};
use self::control::Control;
use self::deviations::Deviation;
pub(crate) use self::gate::{Facts, Gate};
pub(crate) use self::one::{panic_text, run_case, runtime, sweep};
use self::options::Options;
use self::progress::Progress;
use self::report::{End, Report, Row};
use crate::env::Setting;
use crate::lateness::Controls;
use crate::rng::mix;
use crate::{Case, Env, Fail, Harness, Kind, Need, Time, cases};

/// The machine is too busy for its clock to prove anything: neither pass nor fail.
const UNFIT: u8 = 3;
/// What "late" means where waiting costs nothing.
const VIRTUAL_LATENESS: Duration = Duration::from_millis(1);

/// Runs the suite as the command line says, and answers what `main` should return: success, failure, or 3 when the machine
/// is too busy to judge by.
///
/// `-- C-PRI C-DLY-05` runs the cases whose id or name contains one of these, `-- --list` lists them,
/// `-- --report out.json` writes a report, `-- --allow-skip ID=REASON` allows a skip. `SEED=…` replays a run,
/// `CONFORMANCE_STRESS=20` runs everything 20 times, in parallel. `CONFORMANCE_PATIENCE_MS=2000` judges lateness by a bound of
/// up to two seconds instead of a quarter of one, for work on a busy machine.
pub fn run(harness: impl Harness) -> ExitCode {
    run_with(harness, &[])
}

/// The same with cases of one's own beside those of the suite: tables as [`case!`](macro@crate::case) makes them, in the same runner,
/// with the same records, checkers, needs and deviations.
pub fn run_with(harness: impl Harness, tables: &[&'static [Case]]) -> ExitCode {
    let harness: Arc<dyn Harness> = Arc::new(harness);
    // What panics fails its case, which tells more: a line is enough.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    if let Some(code) = child::play(&harness) {
        return code;
    }
    let all: Vec<&'static Case> = cases::all().into_iter().chain(tables.iter().copied().flatten()).collect();
    let options = match Options::of_process().and_then(|options| unique(&all).map(|()| options)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let wanted: Vec<_> = all.into_iter().filter(|case| options.wants(&title(case))).collect();
    if options.runner.list {
        for case in wanted {
            println!("{}: test", title(case));
        }
        return ExitCode::SUCCESS;
    }
    match Suite::prepare(harness, options, wanted) {
        Ok(suite) => Arc::new(suite).run(),
        Err(Stop::Failed(why)) => {
            eprintln!("the suite cannot run: {why}");
            ExitCode::FAILURE
        }
        Err(Stop::Unfit(measured)) => {
            eprintln!("machine unfit: {measured}; nothing was tried");
            ExitCode::from(UNFIT)
        }
    }
}

/// A fault of the broker, and a load that lasts for minutes, would disturb whatever runs beside it.
fn alone(case: &Case) -> bool {
    case.needs.iter().any(|need| need.is_of_faults() || *need == Need::Minutes)
}

fn title(case: &Case) -> String {
    format!("{} {}", case.id, case.name)
}

/// Reports and deviations name cases by their ids.
fn unique(cases: &[&Case]) -> Result<(), String> {
    let mut ids = HashSet::new();
    match cases.iter().find(|case| !ids.insert(case.id)) {
        Some(twice) => Err(format!("{}: two cases have this id", twice.id)),
        None => Ok(()),
    }
}

/// Why nothing is run at all.
enum Stop {
    Failed(Fail),
    Unfit(Measured),
}

impl<E: Into<Fail>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A run that is about to begin.
struct Suite {
    harness: Arc<dyn Harness>,
    options: Options,
    cases: Vec<&'static Case>,
    /// Stands in each namespace, so that two runs on one broker do not meet.
    run: String,
    info: Info,
    facts: Facts,
    lateness: Duration,
    /// None where time is virtual.
    control: Option<Control>,
    deviations: Vec<Deviation>,
    rows: Mutex<Vec<Row>>,
    progress: Progress,
}

impl Suite {
    fn prepare(harness: Arc<dyn Harness>, options: Options, cases: Vec<&'static Case>) -> Result<Self, Stop> {
        let deviations = deviations::read(Path::new("deviations.toml"), harness.name())?;
        let run = format!("{:x}", mix(options.seed, &std::process::id().to_string()) >> 48);
        let runtime =
            runtime(harness.time(), &Arc::default()).map_err(|error| Fail::new(error.to_string()))?;
        let (info, facts, calibrated) = runtime.block_on(async {
            let look = outside(&harness, &run, "look");
            let info = first_look(&look).await?;
            let facts = Facts::gather(&look, &info).await?;
            sweep(&look).await?;
            let calibrated = match harness.time() {
                Time::Virtual => Calibrated::Lateness(VIRTUAL_LATENESS),
                Time::Real => {
                    let clients = options.runner.test_threads.unwrap_or(1);
                    calibrate(&harness, &info, &run, clients, options.patience).await?
                }
            };
            Ok::<_, Fail>((info, facts, calibrated))
        })?;
        let lateness = match calibrated {
            Calibrated::Unfit(measured) => return Err(Stop::Unfit(measured)),
            Calibrated::Lateness(lateness) => lateness,
        };
        let control =
            (harness.time() == Time::Real).then(|| Control::start(outside(&harness, &run, "control")));
        let of = cases.iter().filter(|case| facts.gate(case) == Gate::Open).count();
        let progress = Progress::start(harness.name(), of * options.stress as usize);
        let rows = Mutex::default();
        Ok(Self { harness, options, cases, run, info, facts, lateness, control, deviations, rows, progress })
    }

    /// The outcome of each case is noted by itself, so that what the test runner concludes adds nothing.
    fn run(self: Arc<Self>) -> ExitCode {
        println!("{}: seed {}, L {:?}", self.harness.name(), self.options.seed, self.lateness);
        let cases: Vec<&Case> = self.cases.iter().copied().filter(|case| self.admits(case)).collect();
        let (alone, together): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| alone(case));
        let (timed, busy): (Vec<&Case>, Vec<&Case>) =
            together.iter().partition(|case| case.kind != Kind::Safety);
        self.try_all(&busy, self.options.runner.test_threads);
        // What is late is not looked for beside those that make thousands of messages: these mostly wait.
        self.try_all(&timed, self.options.runner.test_threads);
        self.try_all(&alone, Some(1));
        self.conclude()
    }

    fn try_all(self: &Arc<Self>, cases: &[&'static Case], at_once: Option<usize>) {
        if !cases.is_empty() {
            let mut runner = self.options.runner.clone();
            runner.test_threads = at_once;
            let _ = libtest_mimic::run(&runner, self.trials(cases));
        }
    }

    /// Whether a case is run; writes down why not.
    fn admits(&self, case: &'static Case) -> bool {
        let (end, why) = match self.facts.gate(case) {
            Gate::Open => return true,
            Gate::NotApplicable(why) => (End::NotApplicable, why),
            Gate::Skip(why) => {
                let allowed = self.options.allowed_skips.iter().find(|(id, _)| id == case.id);
                allowed.map_or((End::Skipped, why), |(_, reason)| (End::SkipAllowed, reason.clone()))
            }
        };
        self.note(case, end, Some(why), Duration::ZERO);
        false
    }

    fn trials(self: &Arc<Self>, cases: &[&'static Case]) -> Vec<Trial> {
        let mut trials = Vec::new();
        for repetition in 0..self.options.stress {
            for &case in cases {
                let suite = self.clone();
                let name =
                    if repetition == 0 { title(case) } else { format!("{} #{repetition}", title(case)) };
                trials.push(Trial::test(name, move || suite.try_one(case, repetition)));
            }
        }
        trials
    }

    fn try_one(&self, case: &'static Case, repetition: u32) -> Result<(), Failed> {
        let start = Instant::now();
        let outcome = run_case(case, self.env(case, repetition));
        let declared = self.deviations.iter().find(|it| it.case == case.id);
        let outcome = deviations::as_declared(declared, outcome);
        let (end, why) = match &outcome {
            Ok((end, why)) => (*end, why.clone()),
            Err(fail) => (End::Failed, Some(fail.to_string())),
        };
        self.progress.ended(end == End::Failed);
        self.note(case, end, why, start.elapsed());
        let replay = format!("\n  replay with SEED={} -- {}", self.options.seed, case.id);
        outcome.map(drop).map_err(|fail| format!("{fail}{replay}").into())
    }

    fn env(&self, case: &Case, repetition: u32) -> Env {
        let seed = mix(self.options.seed.wrapping_add(u64::from(repetition)), case.id);
        let case = case.id.trim_start_matches("C-").to_ascii_lowercase();
        let namespace = format!("cf-{}-{case}-{:x}", self.run, seed >> 32);
        let controls = self.control.as_ref().map_or_else(Controls::none, |it| Controls::beside(it.trips()));
        let setting = Setting { namespace, seed, lateness: self.lateness, controls, info: self.info.clone() };
        Env::new(self.harness.clone(), setting)
    }

    fn note(&self, case: &Case, end: End, why: Option<String>, took: Duration) {
        let Case { id, name, statements, .. } = *case;
        self.rows.lock().push(Row { id, name, statements, end, why, millis: took.as_millis() as u64 });
    }

    fn conclude(&self) -> ExitCode {
        let mut rows = std::mem::take(&mut *self.rows.lock());
        rows.sort_by_key(|row| row.id);
        let full = !rows.iter().any(|row| matches!(row.end, End::Skipped | End::SkipAllowed));
        let report = Report::new(self.harness.name(), self.options.seed, self.lateness, full, rows);
        report.print();
        if let Some(file) = &self.options.report
            && let Err(error) = report.write(file)
        {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
        if let Some(why) = self.control.as_ref().and_then(|control| control.always_late(self.lateness)) {
            println!("FAILED: {why}");
            return ExitCode::FAILURE;
        }
        match (report.good(), report.unfit()) {
            (false, _) => ExitCode::FAILURE,
            (true, true) => {
                println!("machine unfit: too many cases were too slow to judge");
                ExitCode::from(UNFIT)
            }
            (true, false) => ExitCode::SUCCESS,
        }
    }
}

/// An environment beside those of the cases.
fn outside(harness: &Arc<dyn Harness>, run: &str, what: &str) -> Env {
    let setting = Setting {
        namespace: format!("cf-{run}-{what}"),
        seed: 0,
        lateness: Duration::ZERO,
        controls: Controls::none(),
        info: Info::new("unknown"),
    };
    Env::new(harness.clone(), setting)
}

/// Opens the backend once.
async fn first_look(look: &Env) -> Result<Info, Fail> {
    let queue = look.open_unrecorded(|options| options).await?;
    let info = queue.info();
    queue.close().await?;
    Ok(info)
}
