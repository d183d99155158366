//! The two cases of the model: many programs in virtual time, some against real brokers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::try_join_all;
use polyqueue::{Dedup, Queue, QueueName, Until};
use tokio::time::Instant;

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
/// How often each obligation must be met. Where a seed has not met one, more programs are tried, up to so many times as many:
/// what is rare may be missed by chance, but not for long.
const VIRTUAL_TIMES: u64 = 20;
const REAL_TIMES: u64 = 3;
const MORE: u64 = 3;
/// How long a failing program may be made shorter.
const SHRINKING: Duration = Duration::from_secs(20);

/// Programs on one queue handle, each on a queue of its own.
#[derive(Clone, Debug)]
pub(super) struct Bench {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) rules: Rules,
    pub(super) tick: Duration,
    pub(super) taste: Taste,
    /// Who knows whether the machine was slow; none where time is virtual.
    beside: Option<Env>,
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
        let rules = Rules {
            lease: tick * VIRTUAL.lease / 1_000,
            max_attempts: 3,
            late: Duration::ZERO,
            grain: Duration::ZERO,
            dedup: Dedup::window(tick * VIRTUAL.window / 1_000),
        };
        Self { queue, rules, tick, taste: VIRTUAL, beside: None }
    }

    /// The rules of real time. There are few programs, so that messages die sooner.
    fn tolerant(queue: Arc<dyn Queue>, env: &Env) -> Self {
        let rules = Rules {
            lease: env.tick() * REAL.lease / 1_000,
            max_attempts: 2,
            late: env.lateness() * 2,
            grain: Duration::from_millis(2),
            dedup: Dedup::window(env.tick() * REAL.window / 1_000),
        };
        Self { queue, rules, tick: env.tick(), taste: REAL, beside: Some(env.clone()) }
    }

    pub(super) async fn drive(&self, program: &[Op]) -> Result<Coverage, Failure> {
        static QUEUES: AtomicU64 = AtomicU64::new(0);
        let name = QueueName::new(format!("model-{}", QUEUES.fetch_add(1, Relaxed)));
        let name = name.map_err(|error| Failure { call: 0, why: error.to_string() })?;
        drive(&self.queue, name, self.rules, self.tick, program).await
    }

    /// Drives the program of this seed; when it fails, makes it shorter.
    pub(super) async fn try_seed(&self, seed: u64, patience: Duration) -> Result<Coverage, Box<Found>> {
        // Every other queue frees keys by an ack.
        let until = if seed.is_multiple_of(2) { Until::Ack } else { Until::Window };
        let mut bench = self.clone();
        bench.rules.dedup.until = until;
        bench.try_program(seed, patience).await
    }

    async fn try_program(&self, seed: u64, patience: Duration) -> Result<Coverage, Box<Found>> {
        let (program, began) = (self.taste.program(seed), Instant::now());
        let failure = match self.drive(&program).await {
            Ok(coverage) => return Ok(coverage),
            Err(failure) => failure,
        };
        // What the model holds for late may have become due too late anywhere in the program.
        let what = format!("call {} of the program of seed {seed}: {}", failure.call, failure.why);
        let excused = |env: &Env| env.excuses(&what, began, Instant::now(), self.rules.late);
        if self.beside.as_ref().is_some_and(excused) {
            return Ok(Coverage::default());
        }
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
    let obligations = [OBLIGATIONS, PATIENT].concat();
    let mut rng = env.rng();
    let mut coverage = Coverage::default();
    for nth in 0..VIRTUAL_PROGRAMS * MORE {
        if nth >= VIRTUAL_PROGRAMS && coverage.missing(&obligations, VIRTUAL_TIMES).is_empty() {
            break;
        }
        let bench = if nth < RECORDED_PROGRAMS { &recorded } else { &plain };
        coverage.add(&bench.try_seed(rng.u64(), SHRINKING).await?);
    }
    plain.queue.close().await?;
    reached(&coverage, &obligations, VIRTUAL_TIMES)
}

/// C-MOD-02: each answer is one of those that the contract and the clocks allow.
pub(crate) async fn in_real_time(env: Env) -> Outcome {
    let mut benches = Vec::new();
    for _ in 0..LANES {
        benches.push(Bench::tolerant(env.open().await?, &env));
    }
    let mut rng = env.rng();
    let mut coverage = Coverage::default();
    for _ in 0..MORE {
        let seeds: Vec<u64> = (0..REAL_PROGRAMS).map(|_| rng.u64()).collect();
        let next = AtomicUsize::new(0);
        for part in try_join_all(benches.iter().map(|bench| lane(bench, &seeds, &next))).await? {
            coverage.add(&part);
        }
        if coverage.missing(OBLIGATIONS, REAL_TIMES).is_empty() {
            break;
        }
    }
    reached(&coverage, OBLIGATIONS, REAL_TIMES)
}

/// One client that drives program after program.
async fn lane(bench: &Bench, seeds: &[u64], next: &AtomicUsize) -> Result<Coverage, Fail> {
    let mut coverage = Coverage::default();
    while let Some(seed) = seeds.get(next.fetch_add(1, Relaxed)) {
        coverage.add(&bench.try_seed(*seed, SHRINKING).await?);
    }
    Ok(coverage)
}

/// What was tried is shown to those who ask for it by `MODEL_COVERAGE`.
fn reached(coverage: &Coverage, obligations: &[&'static str], least: u64) -> Outcome {
    if std::env::var_os("MODEL_COVERAGE").is_some() {
        eprintln!("{coverage}");
    }
    let missing = coverage.missing(obligations, least);
    ensure!(missing.is_empty(), "the programs did not reach: {}", missing.join(", "));
    Ok(())
}
