//! The two cases of the model: many programs in virtual time, some against real brokers.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::try_join_all;
use polyqueue::DedupUntil;
use tokio::time::Instant;

use super::bench::Bench;
use super::coverage::{Coverage, OBLIGATIONS, PATIENT};
use super::program::Listing;
use super::shrink::Failing;
use crate::{Env, Fail, Outcome, ensure};

/// Programs in virtual time; so many of them are recorded too, for the judges of histories.
const VIRTUAL_PROGRAMS: u64 = 2_000;
const RECORDED_PROGRAMS: u64 = 20;
/// Programs in real time, and how many run at once.
const REAL_PROGRAMS: u64 = 100;
const REAL_CLIENTS: u64 = 8;
/// How often each obligation must be met. Where a seed has not met one, more programs are tried, up to so many times as many:
/// what is rare may be missed by chance, but not for long.
const VIRTUAL_TIMES: u64 = 20;
const REAL_TIMES: u64 = 3;
const MORE: u64 = 3;
/// How long a failing program may be made shorter.
const SHRINKING: Duration = Duration::from_secs(20);

/// A program that fails, from this seed.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) seed: u64,
    pub(super) failing: Failing,
}

/// Drives the program of this seed; when it fails, makes it shorter.
pub(super) async fn try_seed(bench: &Bench, seed: u64, patience: Duration) -> Result<Coverage, Box<Found>> {
    let mut bench = bench.clone();
    // Every other queue frees keys by an ack.
    bench.rules.dedup.until = if seed.is_multiple_of(2) { DedupUntil::Ack } else { DedupUntil::Window };
    let (program, began) = (bench.taste.program(seed), Instant::now());
    let failure = match bench.drive(&program).await {
        Ok(coverage) => return Ok(coverage),
        Err(failure) => failure,
    };
    // What the model holds for late may have become due too late anywhere in the program.
    let what = format!("call {} of the program of seed {seed}: {}", failure.call, failure.why);
    let excused = |env: &Env| env.excuses(&what, began, Instant::now(), bench.rules.late);
    if bench.beside.as_ref().is_some_and(excused) {
        return Ok(Coverage::default());
    }
    let failing = Failing::new(&program, failure);
    let shrunk = failing.shrunk(patience, &bench).await;
    Err(Box::new(Found { seed, failing: shrunk }))
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
        coverage.add(&try_seed(bench, rng.u64(), SHRINKING).await?);
    }
    plain.queue.close().await?;
    reached(&coverage, &obligations, VIRTUAL_TIMES)
}

/// C-MOD-02: each answer is one of those that the contract and the clocks allow.
pub(crate) async fn in_real_time(env: Env) -> Outcome {
    let mut benches = Vec::new();
    for _ in 0..REAL_CLIENTS {
        benches.push(Bench::tolerant(env.open().await?, &env));
    }
    let mut rng = env.rng();
    let mut coverage = Coverage::default();
    for _ in 0..MORE {
        let seeds: Vec<u64> = (0..REAL_PROGRAMS).map(|_| rng.u64()).collect();
        let next = AtomicUsize::new(0);
        for part in try_join_all(benches.iter().map(|bench| client(bench, &seeds, &next))).await? {
            coverage.add(&part);
        }
        if coverage.missing(OBLIGATIONS, REAL_TIMES).is_empty() {
            break;
        }
    }
    reached(&coverage, OBLIGATIONS, REAL_TIMES)
}

/// One client that drives program after program.
async fn client(bench: &Bench, seeds: &[u64], next: &AtomicUsize) -> Result<Coverage, Fail> {
    let mut coverage = Coverage::default();
    while let Some(seed) = seeds.get(next.fetch_add(1, Relaxed)) {
        coverage.add(&try_seed(bench, *seed, SHRINKING).await?);
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
