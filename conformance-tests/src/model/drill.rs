//! Tries the suite itself: what its two generators say about a backend, as data rather than as a failed case.
//!
//! The kill table plants one bug after another in the memory backend and asks both; what neither can see is asked of the cases.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use polyqueue::Info;

use super::bench::Bench;
pub use super::coverage::Coverage;
use super::crowd::{Size, crowd};
use super::program::Listing;
use super::shrink::Failing;
use super::suite::{Found, try_seed};
use crate::check::{self, found::Violation};
use crate::env::Setting;
use crate::lateness::Controls;
use crate::run::{Facts, Gate, run_case, runtime, sweep};
use crate::{Env, Fail, Harness, Need, Rng};

/// How long a failing program is made shorter.
const SHRINKING: Duration = Duration::from_secs(5);
const VIRTUAL_LATENESS: Duration = Duration::from_millis(1);
const REAL_LATENESS: Duration = Duration::from_millis(50);

/// A program that a backend does not answer as the model does.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// The seed of the program.
    pub seed: u64,
    /// How many programs were tried, this one included.
    pub programs: u64,
    /// How many calls it still has, made shorter.
    pub calls: usize,
    /// What the model expected.
    pub why: String,
    /// The program, a call a line.
    pub program: String,
}

/// Drives up to so many programs in virtual time against the model; the first that fails, and what was tried until then.
///
/// # Errors
/// When the backend cannot even be opened.
pub fn model(
    harness: &Arc<dyn Harness>,
    seed: u64,
    programs: u64,
) -> Result<(Option<Disagreement>, Coverage), Fail> {
    let env = environment(harness, seed, VIRTUAL_LATENESS);
    let runtime = runtime(harness.time(), &Arc::default()).map_err(|error| Fail::new(error.to_string()))?;
    runtime.block_on(async {
        let queue = env.open_unrecorded(|options| options).await?;
        let tried = try_all(&Bench::exact(queue.clone(), env.tick()), seed, programs).await;
        queue.close().await?;
        // A planted bug may leave anything behind: that is not what is asked here.
        let _ = sweep(&env).await;
        Ok(tried)
    })
}

async fn try_all(bench: &Bench, seed: u64, programs: u64) -> (Option<Disagreement>, Coverage) {
    let (mut rng, mut coverage) = (Rng::new(seed), Coverage::default());
    for nth in 1..=programs {
        match try_seed(bench, rng.u64(), SHRINKING).await {
            Ok(tried) => coverage.add(&tried),
            Err(found) => return (Some(Disagreement::new(&found, nth)), coverage),
        }
    }
    (None, coverage)
}

impl Disagreement {
    fn new(found: &Found, programs: u64) -> Self {
        let Failing { program, failure } = &found.failing;
        Self {
            seed: found.seed,
            programs,
            calls: program.len(),
            why: format!("call {}: {}", failure.call, failure.why),
            program: Listing(program).to_string(),
        }
    }
}

/// Lets a crowd use a backend, and judges the history. The harness says in which time; some crowds drop receives.
///
/// # Errors
/// When a call failed that must not fail, or something was left behind.
pub fn histories(harness: &Arc<dyn Harness>, seed: u64, drops: bool) -> Result<Vec<Violation>, Fail> {
    let lateness = match harness.time() {
        crate::Time::Virtual => VIRTUAL_LATENESS,
        crate::Time::Real => REAL_LATENESS,
    };
    let env = environment(harness, seed, lateness);
    let runtime = runtime(harness.time(), &Arc::default()).map_err(|error| Fail::new(error.to_string()))?;
    let tried = runtime.block_on(async {
        let tried = crowd(&env, Size { producers: 4, consumers: 6, batches: 60, drops }).await;
        sweep(&env).await.and(tried)
    });
    let violations = check::all(&env.recorder().history(), &check::found::Bounds::of(&env));
    if violations.is_empty() { tried.map(|()| violations) } else { Ok(violations) }
}

/// Runs the cases one by one, but for the generators and for those that mean nothing here; those that fail, and why, or the first
/// of them only.
///
/// # Errors
/// When the backend cannot even be opened.
pub fn cases(
    harness: &Arc<dyn Harness>,
    seed: u64,
    first_only: bool,
) -> Result<Vec<(&'static str, Fail)>, Fail> {
    let look = environment(harness, seed, VIRTUAL_LATENESS);
    let runtime = runtime(harness.time(), &Arc::default()).map_err(|error| Fail::new(error.to_string()))?;
    let (info, facts) = runtime.block_on(async {
        let queue = look.open_unrecorded(|options| options).await?;
        let info = queue.info();
        queue.close().await?;
        let facts = Facts::gather(&look, &info).await?;
        Ok::<_, Fail>((info, facts))
    })?;
    let mut failed = Vec::new();
    for case in crate::cases::all() {
        if case.needs.contains(&Need::Minutes) || facts.gate(case) != Gate::Open {
            continue;
        }
        let env = environment_of(harness, seed, VIRTUAL_LATENESS, info.clone());
        if let Err(fail) = run_case(case, env) {
            failed.push((case.id, fail));
            if first_only {
                break;
            }
        }
    }
    Ok(failed)
}

fn environment(harness: &Arc<dyn Harness>, seed: u64, lateness: Duration) -> Env {
    environment_of(harness, seed, lateness, Info::new("drill"))
}

fn environment_of(harness: &Arc<dyn Harness>, seed: u64, lateness: Duration, info: Info) -> Env {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let namespace = format!("drill-{}", RUNS.fetch_add(1, Relaxed));
    Env::new(harness.clone(), Setting { namespace, seed, lateness, controls: Controls::none(), info })
}
