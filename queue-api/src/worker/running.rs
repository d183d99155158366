//! The table of one queue's running jobs: a chunk of deliveries starts together, what ends together is judged and settled
//! together.
//!
//! Only the runner's task touches the table, and it polls handlers, verdicts and heartbeat by one call of
//! [`RunningJobs::progress`]: nothing that one of them adds can be missed by another.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::{Consumer, Delivery, Verdict};

use super::execute::Ended;
use super::job::Job;
use super::leases::Leases;
use super::plan::Plan;
use super::report::Report;
use super::settle::{PendingVerdict, Verdicts};
use super::slots::{End, Slots, Work};
use super::tasks::{unbroken, until};

/// The most messages that are asked for at once.
const MOST: usize = 10_000;
/// How long a message may wait here for a handler: then somebody else may have one for it.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The jobs of one queue that are ours: those that wait for a handler or are in its hands, their leases, and the verdicts on their way.
pub(super) struct RunningJobs {
    plan: Arc<Plan>,
    leases: Arc<Leases>,
    slots: Slots,
    verdicts: Verdicts,
    /// Tasks of its own, so that no handler that blocks its thread stops it.
    heartbeat: JoinSet<()>,
    ended: Vec<End>,
    /// Handlers end at once: messages may wait for them here, as many as the prefetch allows.
    is_ahead: bool,
    /// When to look whether one has waited too long.
    waited: Option<Instant>,
    /// Past the stop deadline: what is aborted now is given back.
    overdue: bool,
    report: Report,
}

impl RunningJobs {
    pub(super) fn new(plan: Arc<Plan>, consumer: Arc<dyn Consumer>) -> Self {
        let leases = Arc::new(Leases::new(consumer.clone()));
        let heartbeat = leases.renew(plan.lease, plan.stall_limit);
        Self {
            verdicts: Verdicts::new(&plan, consumer),
            slots: Slots::new(plan.clone()),
            plan,
            leases,
            heartbeat,
            ended: Vec::new(),
            is_ahead: true,
            waited: None,
            overdue: false,
            report: Report::default(),
        }
    }

    /// How many more messages may come: one for each idle handler, and while handlers end at once up to the prefetch, half of it at a
    /// time; but no more while as many again wait for their verdict to be delivered.
    pub(super) fn room(&self) -> usize {
        let (slots, held) = (self.plan.concurrency, self.leases.len());
        let most = if self.is_ahead { self.plan.prefetch.max(slots) } else { slots };
        let room = most.saturating_sub(held);
        if held >= slots && room < most / 2 {
            return 0;
        }
        room.min(most.saturating_mul(2).saturating_sub(held + self.verdicts.len())).min(MOST)
    }

    /// Until when nothing is to be fetched, because too much was given back.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.slots.backlog().paused_until()
    }

    /// Whether no handler runs, and nothing waits for one.
    pub(super) fn is_idle(&self) -> bool {
        self.leases.len() == 0
    }

    pub(super) fn start(&mut self, chunk: Vec<Delivery>) {
        let (mut admitted, since) = (Vec::with_capacity(chunk.len()), Instant::now());
        for delivery in chunk {
            let job = self.accept(delivery);
            match self.plan.executor.admit(&job) {
                Ok(route) => {
                    let place = self.leases.add(job.clone());
                    admitted.push(Work { place, job, route, since });
                }
                Err(verdict) => self.judged(job, verdict),
            }
        }
        self.slots.offer(admitted);
        if self.leases.len() > self.plan.concurrency {
            self.waited.get_or_insert(since + LONGEST_WAIT);
        }
    }

    /// Gives back what waits for a handler, or for its turn.
    pub(super) fn begin_no_more(&mut self) {
        self.slots.backlog().close();
        self.give_back_queued(Instant::now());
    }

    /// Gives back what was queued by then and has no handler yet. Answers whether there was anything.
    fn give_back_queued(&mut self, until: Instant) -> bool {
        let queued = self.slots.withdraw(until);
        let is_any = !queued.is_empty();
        for work in queued {
            self.ended_one((work.place, Ended::NeverBegan));
        }
        is_any
    }

    /// Gives back what has waited too long, and asks for no more than there are handlers until these end at once again.
    fn give_back_what_waited(&mut self) {
        let now = Instant::now();
        if now.checked_sub(LONGEST_WAIT).is_some_and(|since| self.give_back_queued(since)) {
            self.is_ahead = false;
        }
        self.waited = self.slots.oldest().map(|since| since + LONGEST_WAIT);
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
            () = self.slots.ended(&mut self.ended) => self.judge_ended(),
            () = until(self.waited) => self.give_back_what_waited(),
            Some(ended) = self.heartbeat.join_next() => unbroken(ended),
        }
    }

    /// Drops all handlers, whose jobs are then given back.
    pub(super) fn abort(&mut self) {
        self.overdue = true;
        self.slots.abort();
    }

    /// Gives back also what blocks its thread and cannot be dropped.
    pub(super) fn abandon(&mut self) {
        for job in self.leases.end_all() {
            self.report.handled += 1;
            self.release(job);
        }
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
        let lease = self.leases.begin(delivery.receipt, delivery.lease_until);
        Job { payload: (), attempt, max_attempts, queue, message, lease }
    }

    fn judge_ended(&mut self) {
        let mut ended = std::mem::take(&mut self.ended);
        ended.drain(..).for_each(|end| self.ended_one(end));
        self.ended = ended;
        self.is_ahead |= self.slots.is_ahead();
    }

    fn ended_one(&mut self, (place, ended): End) {
        let Some(job) = self.leases.end(place) else { return };
        self.report.handled += u64::from(ended.has_begun());
        if self.overdue && matches!(ended, Ended::Dropped) {
            return self.release(job);
        }
        match self.plan.executor.judge(&job, ended) {
            Some(verdict) => self.judged(job, verdict),
            None => self.verdicts.lost(job, &mut self.report),
        }
    }

    fn release(&mut self, job: Job<()>) {
        job.lease.end();
        self.judged(job, Verdict::Release { after: Duration::ZERO });
    }

    fn judged(&mut self, job: Job<()>, verdict: Verdict) {
        self.verdicts.waiting.push(PendingVerdict { job, verdict });
    }
}
