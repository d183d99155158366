//! Makes a failing program shorter: leaves calls out as long as it still fails.

use std::time::{Duration, Instant};

use super::bench::Bench;
use super::drive::Failure;
use super::program::Op;

/// A program that fails, and how.
#[derive(Clone, Debug)]
pub(super) struct Failing {
    pub(super) program: Vec<Op>,
    pub(super) failure: Failure,
}

impl Failing {
    /// What comes after the call that went wrong is of no interest.
    pub(super) fn new(program: &[Op], failure: Failure) -> Self {
        let calls = if failure.call == 0 { program.len() } else { failure.call };
        Self { program: program[..calls].to_vec(), failure }
    }

    /// Leaves out half of the calls, a quarter, … and at last single ones, for as long as there is time.
    pub(super) async fn shrunk(self, patience: Duration, bench: &Bench) -> Self {
        let start = Instant::now();
        let mut best = self;
        let mut chunk = best.program.len().div_ceil(2);
        while chunk > 0 {
            let mut from = best.program.len();
            let mut shorter = false;
            while from > 0 {
                if start.elapsed() > patience {
                    return best;
                }
                from = from.saturating_sub(chunk);
                let mut without = best.program.clone();
                without.drain(from..(from + chunk).min(without.len()));
                if let Err(failure) = bench.drive(&without).await {
                    best = Self::new(&without, failure);
                    from = from.min(best.program.len());
                    shorter = true;
                }
            }
            chunk = if shorter && chunk == 1 { 1 } else { chunk / 2 };
        }
        best
    }
}
