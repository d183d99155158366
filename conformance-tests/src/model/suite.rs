//! The two cases of the model: many programs in virtual time, some against real brokers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::try_join_all;
use polyqueue::{Queue, QueueName};

use super::coverage::{Coverage, OBLIGATIONS, PATIENT};
use super::drive::{Failure, drive};
use super::program::{Listing, Op, REAL, Taste, VIRTUAL};
use super::shrink::Failing;
use super::state::Rules;
use crate::{Env, Fail, Outcome, ensure};

/// Programs in virtual time; so many of them are recorded too, for the judges of histories.
const VIRTUAL_PROGRAMS: u64 = 2_000;
const RECORDED_PROGRAMS: u64 = 20;
/// Programs in real time, and how many run at once.
const REAL_PROGRAMS: u64 = 100;
const LANES: u64 = 8;
/// How often each obligation must be met.
const VIRTUAL_TIMES: u64 = 20;
const REAL_TIMES: u64 = 3;
/// How long a failing program may be made shorter.
const SHRINKING: Duration = Duration::from_secs(20);

/// Programs on one queue handle, each on a queue of its own.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) rules: Rules,
    pub(super) tick: Duration,
    pub(super) taste: Taste,
}

/// A program that fails, from this seed.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) seed: u64,
    pub(super) failing: Failing,
}

impl Bench {
    /// The rules of virtual time: nothing is ever late.
    pub(super) fn exact(queue: Arc<dyn Queue>, tick: Duration) -> Self {
        Self::new(queue, tick, VIRTUAL, Duration::ZERO, Duration::ZERO)
    }

    fn tolerant(queue: Arc<dyn Queue>, env: &Env) -> Self {
        Self::new(queue, env.tick(), REAL, env.lateness() * 2, Duration::from_millis(2))
    }

    fn new(queue: Arc<dyn Queue>, tick: Duration, taste: Taste, late: Duration, grain: Duration) -> Self {
        let rules = Rules { lease: tick * taste.lease / 1_000, max_attempts: 3, late, grain };
        Self { queue, rules, tick, taste }
    }

    pub(super) async fn drive(&self, program: &[Op]) -> Result<Coverage, Failure> {
        static QUEUES: AtomicU64 = AtomicU64::new(0);
        let name = QueueName::new(format!("model-{}", QUEUES.fetch_add(1, Relaxed)));
        let name = name.map_err(|error| Failure { call: 0, why: error.to_string() })?;
        drive(&self.queue, name, self.rules, self.tick, program).await
    }

    /// Drives the program of this seed; when it fails, makes it shorter.
    pub(super) async fn try_seed(&self, seed: u64, patience: Duration) -> Result<Coverage, Box<Found>> {
        let program = self.taste.program(seed);
        let failure = match self.drive(&program).await {
            Ok(coverage) => return Ok(coverage),
            Err(failure) => failure,
        };
        let failing = Failing::new(&program, failure);
        let shrunk = failing.shrunk(patience, self).await;
        Err(Box::new(Found { seed, failing: shrunk }))
    }
}

impl From<Box<Found>> for Fail {
    fn from(found: Box<Found>) -> Self {
        let Failing { program, failure } = &found.failing;
        let listing = Listing(program);
        Self::new(format!(
            "call {} is not as the model has it: {}\nprogram of seed {}, made shorter:\n{listing}",
            failure.call, failure.why, found.seed
        ))
    }
}

/// C-MOD-01: equality after every call.
pub(crate) async fn in_virtual_time(env: Env) -> Outcome {
    let recorded = Bench::exact(env.open().await?, env.tick());
    let plain = Bench::exact(env.open_unrecorded(|options| options).await?, env.tick());
    let mut rng = env.rng();
    let mut coverage = Coverage::default();
    for nth in 0..VIRTUAL_PROGRAMS {
        let bench = if nth < RECORDED_PROGRAMS { &recorded } else { &plain };
        coverage.add(&bench.try_seed(rng.u64(), SHRINKING).await?);
    }
    plain.queue.close().await?;
    report(&coverage);
    reached(&coverage, &[OBLIGATIONS, PATIENT].concat(), VIRTUAL_TIMES)
}

/// C-MOD-02: each answer is one of those that the contract and the clocks allow.
pub(crate) async fn in_real_time(env: Env) -> Outcome {
    let mut rng = env.rng();
    let seeds: Vec<u64> = (0..REAL_PROGRAMS).map(|_| rng.u64()).collect();
    let next = AtomicU64::new(0);
    let mut coverage = Coverage::default();
    for part in try_join_all((0..LANES).map(|_| lane(&env, &seeds, &next))).await? {
        coverage.add(&part);
    }
    report(&coverage);
    reached(&coverage, OBLIGATIONS, REAL_TIMES)
}

/// One client that drives program after program.
async fn lane(env: &Env, seeds: &[u64], next: &AtomicU64) -> Result<Coverage, Fail> {
    let bench = Bench::tolerant(env.open().await?, env);
    let mut coverage = Coverage::default();
    while let Some(seed) = seeds.get(next.fetch_add(1, Relaxed) as usize) {
        coverage.add(&bench.try_seed(*seed, SHRINKING).await?);
    }
    Ok(coverage)
}

/// What was tried is shown to those who ask for it.
fn report(coverage: &Coverage) {
    tracing::debug!("model.coverage\n{coverage}");
    if std::env::var_os("MODEL_COVERAGE").is_some() {
        eprintln!("{coverage}");
    }
}

fn reached(coverage: &Coverage, obligations: &[&'static str], least: u64) -> Outcome {
    let missing = coverage.missing(obligations, least);
    ensure!(missing.is_empty(), "the programs did not reach: {}", missing.join(", "));
    Ok(())
}
