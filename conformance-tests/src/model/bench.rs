//! Where programs are driven: a queue handle, the rules, and what beside it was slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use polyqueue::{Dedup, Queue, QueueName};

use super::coverage::Coverage;
use super::drive::{Failure, drive};
use super::program::{Op, REAL, Taste, VIRTUAL};
use super::state::Rules;
use crate::Env;

/// Programs on one queue handle, each on a queue of its own.
#[derive(Clone, Debug)]
pub(super) struct Bench {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) rules: Rules,
    pub(super) tick: Duration,
    pub(super) taste: Taste,
    /// Who knows whether the machine was slow; none where time is virtual.
    pub(super) beside: Option<Env>,
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
    pub(super) fn tolerant(queue: Arc<dyn Queue>, env: &Env) -> Self {
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
}
