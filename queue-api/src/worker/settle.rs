//! Delivers verdicts: gathered into batches, repeated while the broker is away, until the lease ends.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep_until};

use crate::{Consumer, DeadReason, Error, Queue, Receipt, Result, Settled, Verdict};

use super::death::{Death, Hook, Hooks};
use super::job::Job;
use super::report::Tally;
use super::responder::reply_error;
use super::retry_wait::retry_wait;

/// The most verdicts in one call. What arrives while a call is under way goes with the next, so that batches grow with
/// the load and nothing waits for company.
const BATCH: usize = 256;

/// A verdict on its way to the broker.
pub(super) struct PendingVerdict {
    pub(super) job: Job<()>,
    pub(super) verdict: Verdict,
}

/// Settles what one consumer handed out.
pub(super) struct SettleLoop {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) consumer: Arc<dyn Consumer>,
    pub(super) verdicts: UnboundedReceiver<PendingVerdict>,
    /// Told how many verdicts are off our hands.
    pub(super) done: UnboundedSender<usize>,
    pub(super) hook: Option<Arc<dyn Hook>>,
    pub(super) max_attempts: u32,
    pub(super) tally: Tally,
}

impl SettleLoop {
    /// Ends when the last sender of verdicts is gone, the last verdict delivered or given up, and the last hook done.
    pub(super) async fn run(mut self) {
        let (mut again, mut hooks, mut open) = (Again::default(), Hooks::default(), true);
        while open || !again.verdicts.is_empty() {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                () = again.due() => batch = again.take(),
                received = self.verdicts.recv_many(&mut batch, BATCH), if open => open = received > 0,
            }
            if !batch.is_empty() {
                self.settle(batch, &mut again, &mut hooks).await;
            }
            hooks.reap();
        }
        hooks.finish().await;
    }

    async fn settle(&self, batch: Vec<PendingVerdict>, again: &mut Again, hooks: &mut Hooks) {
        let calls: Vec<(Receipt, Verdict)> = batch
            .iter()
            .map(|pending| (pending.job.lease.receipt().clone(), pending.verdict.clone()))
            .collect();
        let answers = match self.consumer.settle(&calls).await {
            Ok(answers) => answers,
            Err(error) => vec![Err(error); batch.len()],
        };
        let (size, waiting) = (batch.len(), again.verdicts.len());
        for (pending, answer) in batch.into_iter().zip(answers) {
            self.note(pending, answer, again, hooks);
        }
        let off_our_hands = size - (again.verdicts.len() - waiting);
        again.back_off(off_our_hands > 0);
        // The runner may be gone already, when the worker stops.
        let _ = self.done.send(off_our_hands);
    }

    fn note(&self, pending: PendingVerdict, answer: Result<Settled>, again: &mut Again, hooks: &mut Hooks) {
        match answer {
            Ok(Settled::LeaseLost) => self.tally.lock().lost += 1,
            Ok(Settled::Died) => self.died(pending, hooks),
            // Our only verdict on this receipt: an earlier call of it took effect, and its answer was lost.
            Ok(Settled::AlreadySettled) if self.was_fatal(&pending) => self.died(pending, hooks),
            Ok(Settled::Applied | Settled::AlreadySettled) => self.applied(&pending.verdict),
            Err(error) if error.is_transient() && !pending.job.lease.is_over() => {
                again.verdicts.push(pending)
            }
            Err(error) => self.given_up(&pending, &error),
        }
    }

    fn was_fatal(&self, PendingVerdict { job, verdict }: &PendingVerdict) -> bool {
        let max = job.message.max_attempts().map_or(self.max_attempts, |own| own.get());
        match verdict {
            Verdict::DeadLetter { .. } => true,
            Verdict::Retry { .. } => job.attempt >= max,
            Verdict::Ack | Verdict::Release { .. } => false,
        }
    }

    fn applied(&self, verdict: &Verdict) {
        let mut tally = self.tally.lock();
        match verdict {
            Verdict::Ack => tally.acked += 1,
            Verdict::Retry { .. } => tally.retried += 1,
            Verdict::Release { .. } => tally.released += 1,
            Verdict::DeadLetter { .. } => tally.died += 1,
        }
    }

    fn died(&self, PendingVerdict { job, verdict }: PendingVerdict, hooks: &mut Hooks) {
        self.tally.lock().died += 1;
        let (reason, error) = match verdict {
            Verdict::DeadLetter { reason, error } => (reason.into(), error),
            Verdict::Retry { error, .. } => (DeadReason::MaxAttempts, error),
            Verdict::Ack | Verdict::Release { .. } => (DeadReason::MaxAttempts, String::new()),
        };
        let (queue, id, attempts) = (job.queue, job.message.id(), job.attempt);
        tracing::warn!(name: "worker.message_died", %queue, %id, %reason, attempts);
        if job.message.reply_to().is_some() {
            hooks.spawn(reply_error(self.queue.clone(), job.message.clone(), error.clone()));
        }
        if let Some(hook) = &self.hook {
            hooks.call(hook, Death { queue, message: job.message, reason, error, attempts });
        }
    }

    fn given_up(&self, pending: &PendingVerdict, error: &Error) {
        self.tally.lock().unsettled += 1;
        let (queue, id) = (&pending.job.queue, pending.job.message.id());
        tracing::error!(name: "worker.verdict_undelivered", %queue, %id, %error);
    }
}

/// Verdicts whose settling failed for now.
#[derive(Default)]
struct Again {
    verdicts: Vec<PendingVerdict>,
    failures: u32,
    at: Option<Instant>,
}

impl Again {
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

    /// Sets when the next call is due; from the start again once `anything` got through.
    fn back_off(&mut self, anything: bool) {
        self.failures = if anything { 1 } else { self.failures.saturating_add(1) };
        self.at = Some(Instant::now() + retry_wait(self.failures));
    }
}
