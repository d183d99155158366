//! One queue's runner: fetches while there is room, starts handlers and passes their verdicts on.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::poll;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{Consumer, Delivery, QueueName, Result, Verdict};

use super::execute::Ended;
use super::job::Job;
use super::lease::Leases;
use super::plan::Plan;
use super::report::Tally;
use super::retry_wait::retry_wait;
use super::settle::{PendingVerdict, SettleLoop};
use super::tasks::unbroken;

/// How long one `receive` waits for a message before it is called again.
const WAIT: Duration = Duration::from_secs(600);
/// A `receive` that is pending.
pub(super) type Receiving = BoxFuture<'static, Result<Vec<Delivery>>>;

/// One queue: its consumer, the handlers that run, and the verdicts that are on their way.
pub(super) struct QueueRunner {
    pub(super) plan: Arc<Plan>,
    pub(super) queue: QueueName,
    pub(super) consumer: Arc<dyn Consumer>,
    pub(super) tally: Tally,
    pub(super) leases: Arc<Leases>,
    pub(super) handlers: JoinSet<Ended>,
    pub(super) running: HashMap<task::Id, Job<()>>,
    /// Verdicts that wait until the next `receive` has been called: a broker that pushes sends the next message
    /// when it has the verdict, and somebody must be there to take the most urgent one.
    pub(super) outbox: Vec<PendingVerdict>,
    pub(super) verdicts: UnboundedSender<PendingVerdict>,
    pub(super) done: UnboundedReceiver<usize>,
    pub(super) unsettled: usize,
    /// The settle loop and the heartbeat; neither ends while the runner runs.
    pub(super) tasks: JoinSet<()>,
    pub(super) heartbeat: task::AbortHandle,
    pub(super) failures: u32,
    pub(super) resume: Option<Instant>,
    /// Past the stop deadline: what is aborted now is given back.
    pub(super) overdue: bool,
}

impl QueueRunner {
    pub(super) fn new(plan: Arc<Plan>, queue: QueueName, consumer: Arc<dyn Consumer>, tally: Tally) -> Self {
        let (verdicts, inbox) = unbounded_channel();
        let (settled, done) = unbounded_channel();
        let leases = Arc::new(Leases::new(consumer.clone()));
        let mut tasks = JoinSet::new();
        let heartbeat = tasks.spawn(leases.clone().keep(plan.lease));
        let settle_loop = SettleLoop {
            queue: plan.queue.clone(),
            consumer: consumer.clone(),
            verdicts: inbox,
            done: settled,
            hook: plan.hook.clone(),
            max_attempts: plan.executor.retry.max_attempts().get(),
            tally: tally.clone(),
        };
        tasks.spawn(settle_loop.run());
        Self {
            plan,
            queue,
            consumer,
            tally,
            leases,
            handlers: JoinSet::new(),
            running: HashMap::new(),
            outbox: Vec::new(),
            verdicts,
            done,
            unsettled: 0,
            tasks,
            heartbeat,
            failures: 0,
            resume: None,
            overdue: false,
        }
    }

    /// Until `stop`, or an error that does not pass by itself; `receiving` is the call that was pending then.
    pub(super) async fn fetch(
        &mut self,
        stop: &CancellationToken,
        receiving: &mut Option<Receiving>,
    ) -> Result<()> {
        while !stop.is_cancelled() {
            let at_once = self.call(receiving).await;
            self.flush();
            if let Some(got) = at_once {
                self.breathe(&got);
                self.received(got)?;
                continue;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(ended) = self.handlers.join_next_with_id() => self.ended(ended),
                got = answer(receiving) => self.received(got)?,
                Some(settled) = self.done.recv() => self.unsettled -= settled,
                () = until(self.resume) => self.resume = None,
                Some(ended) = self.tasks.join_next() => unbroken(ended),
            }
        }
        Ok(())
    }

    /// Calls `receive` for the free slots unless a call is pending; the answer, when it came at once.
    async fn call(&mut self, receiving: &mut Option<Receiving>) -> Option<Result<Vec<Delivery>>> {
        let room = self.room();
        if receiving.is_some() || room == 0 {
            return None;
        }
        let consumer = self.consumer.clone();
        let call = receiving.insert(Box::pin(async move { consumer.receive(room, WAIT).await }));
        match poll!(call) {
            Poll::Ready(got) => {
                *receiving = None;
                Some(got)
            }
            Poll::Pending => None,
        }
    }

    /// Nothing, and at once: not what was asked for, and no reason to spin.
    fn breathe(&mut self, got: &Result<Vec<Delivery>>) {
        if got.as_ref().is_ok_and(Vec::is_empty) {
            self.resume = Some(Instant::now() + retry_wait(1));
        }
    }

    /// How many more messages may come: one for each idle handler, but no more while as many again wait for their
    /// verdict to be delivered.
    fn room(&self) -> usize {
        if self.resume.is_some() {
            return 0;
        }
        let (slots, running) = (self.plan.concurrency, self.running.len());
        let held = running + self.unsettled + self.outbox.len();
        slots.saturating_sub(running).min((2 * slots).saturating_sub(held))
    }

    fn received(&mut self, got: Result<Vec<Delivery>>) -> Result<()> {
        match got {
            Ok(deliveries) => {
                self.failures = 0;
                deliveries.into_iter().for_each(|delivery| self.begin(delivery));
                Ok(())
            }
            Err(error) if error.is_transient() => {
                self.failures = self.failures.saturating_add(1);
                let wait = retry_wait(self.failures);
                self.resume = Some(Instant::now() + wait);
                tracing::warn!(name: "worker.receive_failed", queue = %self.queue, ?wait, %error);
                Ok(())
            }
            Err(error) => {
                tracing::error!(name: "worker.receive_failed", queue = %self.queue, %error);
                Err(error)
            }
        }
    }

    fn begin(&mut self, delivery: Delivery) {
        let job = self.accept(delivery);
        match self.plan.executor.start(job.clone()) {
            Ok(run) => {
                self.tally.lock().handled += 1;
                self.running.insert(self.handlers.spawn(run).id(), job);
            }
            Err(verdict) => self.rule(job, verdict),
        }
    }

    pub(super) fn accept(&mut self, delivery: Delivery) -> Job<()> {
        self.tally.lock().received += 1;
        let lease = self.leases.begin(delivery.receipt, delivery.lease_until);
        let (attempt, queue, message) = (delivery.attempt, delivery.queue, Arc::new(delivery.message));
        Job { payload: (), attempt, queue, message, lease }
    }

    fn rule(&mut self, job: Job<()>, verdict: Verdict) {
        self.leases.forget(&job.lease);
        self.outbox.push(PendingVerdict { job, verdict });
    }

    /// Ends what a message without a verdict cost us.
    fn lose(&mut self, job: Job<()>) {
        self.leases.forget(&job.lease);
        self.tally.lock().lost += 1;
    }

    /// A handler ended, and perhaps others with it.
    pub(super) fn ended(&mut self, ended: Result<(task::Id, Ended), JoinError>) {
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
        let Some(job) = self.running.remove(&id) else { return };
        if self.overdue && matches!(&ended, Err(error) if error.is_cancelled()) {
            return self.release(job);
        }
        match self.plan.executor.judge(&job, ended) {
            Some(verdict) => self.rule(job, verdict),
            None => self.lose(job),
        }
    }

    pub(super) fn release(&mut self, job: Job<()>) {
        job.lease.end();
        self.rule(job, Verdict::Release { after: Duration::ZERO });
    }

    /// Hands the verdicts to the settle loop.
    pub(super) fn flush(&mut self) {
        self.unsettled += self.outbox.len();
        for verdict in self.outbox.drain(..) {
            // The settle loop ends after this runner's last verdict, or by a panic that the runner passes on.
            let _ = self.verdicts.send(verdict);
        }
    }
}

/// The answer of the pending call; for ever when none is pending.
pub(super) async fn answer(receiving: &mut Option<Receiving>) -> Result<Vec<Delivery>> {
    let Some(call) = receiving else { return pending().await };
    let got = call.await;
    *receiving = None;
    got
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
