//! The table of one queue's running jobs: a chunk of deliveries starts together, what ends together is judged and settled
//! together.
//!
//! Only the runner's task touches the table, and it polls handlers, verdicts and heartbeat by one call of
//! [`RunningJobs::progress`]: nothing that one of them adds can be missed by another, for no other task has to be woken.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;

use crate::{Consumer, Delivery, Verdict};

use super::execute::Ended;
use super::job::Job;
use super::leases::Leases;
use super::plan::Plan;
use super::report::Report;
use super::settle::{PendingVerdict, Verdicts};
use super::tasks::unbroken;
use super::turn::Backlog;

/// The most messages that are asked for at once.
const MOST: usize = 10_000;

/// The jobs of one queue that are ours: those in the hands of handlers, their leases, and the verdicts on their way.
pub(super) struct RunningJobs {
    plan: Arc<Plan>,
    leases: Arc<Leases>,
    handlers: JoinSet<Ended>,
    backlog: Backlog,
    jobs: HashMap<task::Id, Job<()>>,
    verdicts: Verdicts,
    /// Tasks of its own, so that no handler that blocks its thread stops it.
    heartbeat: JoinSet<()>,
    /// Past the stop deadline: what is aborted now is given back.
    overdue: bool,
    report: Report,
}

impl RunningJobs {
    pub(super) fn new(plan: Arc<Plan>, consumer: Arc<dyn Consumer>) -> Self {
        let leases = Arc::new(Leases::new(consumer.clone()));
        let backlog = Backlog::new(plan.concurrency);
        let heartbeat = leases.renew(plan.lease, plan.stall_limit);
        Self {
            verdicts: Verdicts::new(&plan, consumer),
            plan,
            leases,
            handlers: JoinSet::new(),
            backlog,
            jobs: HashMap::new(),
            heartbeat,
            overdue: false,
            report: Report::default(),
        }
    }

    /// How many more messages may come: one for each idle handler, but no more while as many again wait for their
    /// verdict to be delivered.
    pub(super) fn room(&self) -> usize {
        let (slots, running) = (self.plan.concurrency, self.jobs.len());
        let held = running + self.verdicts.len();
        slots.saturating_sub(running).min(slots.saturating_mul(2).saturating_sub(held)).min(MOST)
    }

    /// Until when nothing is to be fetched, because too much was given back.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.backlog.paused_until()
    }

    /// Whether no handler runs.
    pub(super) fn is_idle(&self) -> bool {
        self.handlers.is_empty()
    }

    pub(super) fn start(&mut self, chunk: Vec<Delivery>) {
        for delivery in chunk {
            let job = self.accept(delivery);
            let free = self.plan.concurrency.saturating_sub(self.jobs.len());
            match self.plan.executor.start(job.clone(), &mut self.backlog, free) {
                Ok(run) => {
                    self.report.handled += 1;
                    self.jobs.insert(self.handlers.spawn(run).id(), job);
                }
                Err(verdict) => self.judged(job, verdict),
            }
        }
    }

    /// Gives back what waits for its turn.
    pub(super) fn begin_no_more(&self) {
        self.backlog.close();
    }

    /// Gives back what came after the stop: nobody has had an attempt at it.
    pub(super) fn give_back(&mut self, chunk: Vec<Delivery>) {
        for delivery in chunk {
            let job = self.accept(delivery);
            self.release(job);
        }
    }

    /// Until something has changed: handlers ended, or a chunk of verdicts is off our hands. For ever when nothing runs
    /// and no verdict waits; may be dropped at any point.
    pub(super) async fn progress(&mut self) {
        tokio::select! {
            biased;
            () = self.verdicts.settled(&mut self.report) => {}
            Some(ended) = self.handlers.join_next_with_id() => self.ended(ended),
            Some(ended) = self.heartbeat.join_next() => unbroken(ended),
        }
    }

    /// Drops all handlers, whose jobs are then given back.
    pub(super) fn abort(&mut self) {
        self.overdue = true;
        self.handlers.abort_all();
    }

    /// Gives back also what blocks its thread and cannot be dropped.
    pub(super) fn abandon(&mut self) {
        let stuck: Vec<_> = self.jobs.drain().map(|(_, job)| job).collect();
        stuck.into_iter().for_each(|job| self.release(job));
    }

    /// Waits for the last verdicts and hooks.
    pub(super) async fn finish(&mut self) {
        self.heartbeat.abort_all();
        while self.verdicts.len() > 0 {
            self.verdicts.settled(&mut self.report).await;
        }
        self.verdicts.hooks.finish().await;
    }

    /// What has become of all jobs, those counted whose verdict is still on its way.
    pub(super) fn report(self) -> Report {
        Report { unsettled: self.report.unsettled + self.verdicts.len() as u64, ..self.report }
    }

    fn accept(&mut self, delivery: Delivery) -> Job<()> {
        self.report.received += 1;
        let max_attempts = self.plan.executor.max_attempts(&delivery);
        let (attempt, queue, message) = (delivery.attempt, delivery.queue, delivery.message);
        let lease = self.leases.begin(delivery.receipt, delivery.lease_until, message.clone());
        Job { payload: (), attempt, max_attempts, queue, message, lease }
    }

    /// A handler ended, and perhaps others with it.
    fn ended(&mut self, ended: Result<(task::Id, Ended), JoinError>) {
        let mut next = Some(ended);
        while let Some(ended) = next {
            self.ended_one(ended);
            next = self.handlers.try_join_next_with_id();
        }
    }

    fn ended_one(&mut self, ended: Result<(task::Id, Ended), JoinError>) {
        let (id, ended) = match ended {
            Ok((id, ended)) => (id, Ok(ended)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some(job) = self.jobs.remove(&id) else { return };
        self.leases.ended(job.message.kind());
        if self.overdue && matches!(&ended, Err(error) if error.is_cancelled()) {
            return self.release(job);
        }
        if matches!(ended, Ok(Ended::NeverBegan)) {
            self.report.handled -= 1;
        }
        match self.plan.executor.judge(&job, ended) {
            Some(verdict) => self.judged(job, verdict),
            None => {
                self.leases.forget(&job.lease);
                self.verdicts.lost(job, &mut self.report);
            }
        }
    }

    fn release(&mut self, job: Job<()>) {
        job.lease.end();
        self.judged(job, Verdict::Release { after: Duration::ZERO });
    }

    fn judged(&mut self, job: Job<()>, verdict: Verdict) {
        self.leases.forget(&job.lease);
        self.verdicts.waiting.push(PendingVerdict { job, verdict });
    }
}
