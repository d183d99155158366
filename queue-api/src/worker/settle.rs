//! Delivers verdicts: gathered into batches, repeated while the broker is away, until the lease ends.

use std::future::{pending, ready};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use crate::backend::Jitter;
use crate::{Consumer, DeadReason, Error, Queue, Receipt, Result, Settled, Verdict};

use super::death::{Death, Hook, Hooks};
use super::job::Job;
use super::plan::Plan;
use super::report::Report;
use super::responder::reply_error;
use super::retry_wait::retry_wait;

/// The most verdicts in one call. What is judged while a call is under way goes with the next, so that chunks grow with
/// the load and nothing waits for company.
const CHUNK: usize = 256;
/// What is judged waits no longer for a call that is under way, for its lease may end meanwhile.
const SLOW: Duration = Duration::from_millis(20);
/// The most calls under way at once.
const CALLS: usize = 16;

/// A verdict on its way to the broker.
pub(super) struct PendingVerdict {
    pub(super) job: Job<()>,
    pub(super) verdict: Verdict,
}

/// The verdicts on what one consumer handed out, until they are delivered or given up.
pub(super) struct Verdicts {
    queue: Arc<dyn Queue>,
    consumer: Arc<dyn Consumer>,
    hook: Option<Arc<dyn Hook>>,
    /// Judged, and in no call yet.
    pub(super) waiting: Vec<PendingVerdict>,
    calls: FuturesUnordered<BoxFuture<'static, Settling>>,
    /// How many verdicts the calls under way are about.
    called: usize,
    /// When the latest call began.
    latest: Option<Instant>,
    again: Again,
    pub(super) hooks: Hooks,
}

/// What a call was about, and what came of it.
struct Settling {
    chunk: Vec<PendingVerdict>,
    answers: Result<Vec<Result<Settled>>>,
}

impl Verdicts {
    pub(super) fn new(plan: &Plan, consumer: Arc<dyn Consumer>) -> Self {
        Self {
            queue: plan.queue.clone(),
            consumer,
            hook: plan.hook.clone(),
            waiting: Vec::new(),
            calls: FuturesUnordered::new(),
            called: 0,
            latest: None,
            again: Again::new(plan.executor.jitter.clone()),
            hooks: Hooks::default(),
        }
    }

    /// How many are not off our hands.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.called + self.again.verdicts.len()
    }

    /// Settles one chunk; for ever when there is none. Dropped, it goes on at its next call.
    pub(super) async fn settled(&mut self, report: &mut Report) {
        let Settling { chunk, answers } = loop {
            let next = next_call(&self.again, !self.waiting.is_empty(), self.calls.len(), self.latest);
            let is_again = tokio::select! {
                biased;
                Some(settling) = self.calls.next() => break settling,
                is_again = next => is_again,
            };
            self.call(is_again);
        };
        self.called -= chunk.len();
        let answers = answers.unwrap_or_else(|error| vec![Err(error); chunk.len()]);
        let (size, waiting) = (chunk.len(), self.again.verdicts.len());
        for (pending, answer) in chunk.into_iter().zip(answers) {
            self.note(pending, answer, report);
        }
        self.again.back_off(self.again.verdicts.len() - waiting < size);
        self.hooks.reap();
    }

    fn call(&mut self, is_again: bool) {
        let chunk = match is_again {
            true => self.again.take(),
            false => self.waiting.drain(..self.waiting.len().min(CHUNK)).collect(),
        };
        let consumer = self.consumer.clone();
        let verdicts: Vec<(Receipt, Verdict)> = chunk
            .iter()
            .map(|pending| (pending.job.lease.receipt().clone(), pending.verdict.clone()))
            .collect();
        self.called += chunk.len();
        self.latest = Some(Instant::now());
        self.calls
            .push(Box::pin(async move { Settling { chunk, answers: consumer.settle(&verdicts).await } }));
    }

    fn note(&mut self, pending: PendingVerdict, answer: Result<Settled>, report: &mut Report) {
        match answer {
            Ok(Settled::LeaseLost) => {
                if pending.verdict == Verdict::Ack {
                    lost_when_done(&pending.job);
                }
                self.lost(pending.job, report);
            }
            Ok(Settled::Died) => self.died(pending, report),
            // Our only verdict on this receipt: an earlier call of it took effect, and its answer was lost.
            Ok(Settled::AlreadySettled) if was_fatal(&pending) => self.died(pending, report),
            Ok(Settled::Applied | Settled::AlreadySettled) => applied(&pending.verdict, report),
            Err(error) if error.is_transient() && !pending.job.lease.is_over() => {
                self.again.verdicts.push(pending)
            }
            Err(error) => given_up(&pending, &error, report),
        }
    }

    /// Somebody else is handed the message, unless this was its last attempt: then the broker makes it a dead letter.
    pub(super) fn lost(&mut self, job: Job<()>, report: &mut Report) {
        report.lost += 1;
        if job.attempt < job.max_attempts {
            return;
        }
        let (queue, id, attempts) = (job.queue, job.message.id(), job.attempt);
        tracing::warn!(name: "worker.message_died", %queue, %id, attempts, lease_lost = true, "a lease was lost at the last attempt: the broker makes the message a dead letter");
        if let Some(hook) = &self.hook {
            let (reason, error) = (DeadReason::MaxAttempts, "the lease was lost at the last attempt".into());
            let message = job.message;
            self.hooks.call(hook, Death { queue, message, reason, error, attempts, lease_lost: true });
        }
    }

    fn died(&mut self, PendingVerdict { job, verdict }: PendingVerdict, report: &mut Report) {
        report.died += 1;
        let (reason, error) = match verdict {
            Verdict::DeadLetter { reason, error } => (reason.into(), error),
            Verdict::Retry { error, .. } => (DeadReason::MaxAttempts, error),
            Verdict::Ack | Verdict::Release { .. } => (DeadReason::MaxAttempts, String::new()),
        };
        let (queue, id, attempts) = (job.queue, job.message.id(), job.attempt);
        tracing::warn!(name: "worker.message_died", %queue, %id, %reason, attempts, "a message became a dead letter");
        if job.message.reply_to().is_some() {
            self.hooks.spawn(reply_error(self.queue.clone(), job.message.clone(), error.clone()));
        }
        if let Some(hook) = &self.hook {
            let message = job.message;
            self.hooks.call(hook, Death { queue, message, reason, error, attempts, lease_lost: false });
        }
    }
}

fn was_fatal(PendingVerdict { job, verdict }: &PendingVerdict) -> bool {
    match verdict {
        Verdict::DeadLetter { .. } => true,
        Verdict::Retry { .. } => job.attempt >= job.max_attempts,
        Verdict::Ack | Verdict::Release { .. } => false,
    }
}

fn applied(verdict: &Verdict, report: &mut Report) {
    match verdict {
        Verdict::Ack => report.acked += 1,
        Verdict::Retry { .. } => report.retried += 1,
        Verdict::Release { .. } => report.released += 1,
        Verdict::DeadLetter { .. } => report.died += 1,
    }
}

fn lost_when_done(job: &Job<()>) {
    let (queue, id, kind) = (&job.queue, job.message.id(), job.message.kind());
    tracing::warn!(name: "worker.lease_lost_when_done", %queue, %id, kind, "its handler returned Ok after its lease was lost: does it block its thread? see Worker::on_blocking");
}

fn given_up(pending: &PendingVerdict, error: &Error, report: &mut Report) {
    report.unsettled += 1;
    let (queue, id) = (&pending.job.queue, pending.job.message.id());
    tracing::error!(name: "worker.verdict_undelivered", %queue, %id, %error, "a verdict could not be delivered: the message comes back at the end of its lease");
}

/// Verdicts whose settling failed for now.
struct Again {
    jitter: Arc<Jitter>,
    verdicts: Vec<PendingVerdict>,
    failures: u32,
    at: Option<Instant>,
}

impl Again {
    fn new(jitter: Arc<Jitter>) -> Self {
        Self { jitter, verdicts: Vec::new(), failures: 0, at: None }
    }

    async fn due(&self) {
        match self.at {
            Some(at) if !self.verdicts.is_empty() => sleep_until(at).await,
            _ => pending().await,
        }
    }

    fn take(&mut self) -> Vec<PendingVerdict> {
        self.at = None;
        std::mem::take(&mut self.verdicts)
    }

    /// After a call: sets when the next is due of what failed, from the start again once `anything` got through.
    fn back_off(&mut self, anything: bool) {
        if anything {
            self.failures = 0;
        }
        if self.at.is_none() && !self.verdicts.is_empty() {
            self.failures = self.failures.saturating_add(1);
            self.at = Some(Instant::now() + retry_wait(&self.jitter, self.failures));
        }
    }
}

/// When the next call may begin, and whether it is about what failed.
async fn next_call(again: &Again, is_waiting: bool, under_way: usize, latest: Option<Instant>) -> bool {
    match latest {
        _ if under_way == CALLS => pending().await,
        Some(latest) if under_way > 0 => sleep_until(latest + SLOW).await,
        _ => {}
    }
    tokio::select! {
        biased;
        () = again.due() => true,
        () = ready(()), if is_waiting => false,
    }
}
