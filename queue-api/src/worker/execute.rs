//! One delivery: look up its handler, let it run, judge how that ended.

use std::any::Any as Thing;
use std::future::pending;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::time::sleep;
use tracing::Instrument;

use crate::backend::Jitter;
use crate::{Delivery, Failure, Limits, Message, Refusal, RetryPolicy, Verdict};

use super::handler::ErasedHandler;
use super::job::Job;
use super::route::{Route, Routes};
use super::turn::Backlog;
use super::unknown::UnknownKinds;

/// What the worker does with a payload whose schema has another major version than its handler reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Versions {
    /// Warns in the log, and tries to decode it.
    #[default]
    Warn,
    /// Makes it a dead letter, `rejected`.
    Reject,
}

/// How a handler ended.
pub(super) enum Ended {
    Returned(Result<(), Failure>),
    TimedOut(Duration),
    LeaseLost {
        has_begun: bool,
    },
    Panicked(Box<dyn Thing + Send>),
    /// Its task was.
    Dropped,
    /// The worker stopped before it was its turn.
    NeverBegan,
    /// There is neither a turn of this handler nor a place to wait for one: to be given back for so long.
    NoTurn(Duration),
}

impl Ended {
    /// Whether the handler was called.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self, Self::NeverBegan | Self::NoTurn(_) | Self::LeaseLost { has_begun: false })
    }
}

/// Knows the handlers, and what their endings mean.
pub(super) struct Executor {
    pub(super) routes: Routes,
    pub(super) unknown: UnknownKinds,
    pub(super) versions: Versions,
    /// Of what no handler knows.
    pub(super) retry: RetryPolicy,
    pub(super) limits: Limits,
    pub(super) jitter: Arc<Jitter>,
}

impl Executor {
    fn retry(&self, kind: &str) -> &RetryPolicy {
        self.routes.of(kind).map_or(&self.retry, |route| &route.retry)
    }

    /// The most attempts that any handler allows: what the broker holds all messages to.
    pub(super) fn most_attempts(&self) -> NonZeroU32 {
        let each = self.routes.all().map(Route::max_attempts);
        each.fold(self.retry.max_attempts(), NonZeroU32::max)
    }

    /// After how many attempts this message dies: where it says nothing and its handler allows fewer than the broker was told, the
    /// handler decides.
    pub(super) fn max_attempts(&self, delivery: &Delivery) -> u32 {
        let handlers = self.retry(delivery.message.kind()).max_attempts();
        let is_stricter = delivery.message.max_attempts().is_none() && handlers < self.most_attempts();
        if is_stricter { handlers.get() } else { delivery.max_attempts }
    }

    /// The handler of a message, or the verdict on one that no handler may see.
    pub(super) fn admit(&self, job: &Job<()>) -> Result<Arc<Route>, Verdict> {
        let Some(route) = self.routes.of(job.message.kind()) else { return Err(self.unknown(job)) };
        if job.attempt > job.max_attempts && self.is_stricter(job) {
            let error = format!("the lease ended at attempt {}, the last", job.max_attempts);
            return Err(Verdict::DeadLetter { reason: Refusal::MaxAttempts, error });
        }
        self.check_version(route.handler.as_ref(), job)?;
        Ok(route.clone())
    }

    fn unknown(&self, job: &Job<()>) -> Verdict {
        let (queue, id, kind) = (&job.queue, job.message.id(), job.message.kind());
        let verdict = self.verdict(job, self.unknown.failure(&job.message, Utc::now()));
        match verdict {
            Verdict::Release { after } => {
                tracing::debug!(name: "worker.no_handler", %queue, %id, kind, ?after, "no handler knows this kind: it is given back")
            }
            _ => tracing::warn!(name: "worker.no_handler", %queue, %id, kind, "no handler knows this kind"),
        }
        verdict
    }

    fn check_version(&self, handler: &dyn ErasedHandler, job: &Job<()>) -> Result<(), Verdict> {
        let Some((reads, is)) = handler.version().zip(foreign_version(handler, &job.message)) else {
            return Ok(());
        };
        let (queue, id) = (&job.queue, job.message.id());
        tracing::warn!(name: "worker.other_schema_version", %queue, %id, version = is, handler_reads = reads, "the payload's schema has another major version than the handler reads");
        match self.versions {
            Versions::Warn => Ok(()),
            Versions::Reject => {
                Err(Verdict::reject(format!("schema version {is}; the handler reads {reads}")))
            }
        }
    }

    /// The verdict on how a handler ended; `None` when the message is not ours to judge any more.
    pub(super) fn judge(&self, job: &Job<()>, ended: Ended) -> Option<Verdict> {
        let (queue, id, attempt) = (&job.queue, job.message.id(), job.attempt);
        let failure = match ended {
            Ended::Returned(Ok(())) => return Some(Verdict::Ack),
            Ended::NeverBegan => return Some(Verdict::Release { after: Duration::ZERO }),
            Ended::NoTurn(after) => return Some(Verdict::Release { after }),
            Ended::Returned(Err(failure)) => failure,
            Ended::TimedOut(after) => Failure::from(format!("the handler timed out after {after:?}")),
            Ended::LeaseLost { .. } => {
                tracing::warn!(name: "worker.lease_lost", %queue, %id, attempt, "the handler's future was dropped");
                return None;
            }
            Ended::Panicked(payload) => {
                Failure::from(format!("the handler panicked: {}", words(payload.as_ref())))
            }
            Ended::Dropped => Failure::from("the handler's task was aborted"),
        };
        tracing::info!(name: "worker.job_failed", %queue, %id, attempt, failure = said(&failure), "a handler failed");
        Some(self.verdict(job, failure))
    }

    /// The policy's verdict, or a retry that says why the backend would refuse it.
    fn verdict(&self, job: &Job<()>, failure: Failure) -> Verdict {
        let by_policy =
            |failure| self.retry(job.message.kind()).verdict(job.attempt, failure, self.jitter.fraction());
        let verdict = by_policy(failure);
        match self.limits.check_verdict(&verdict) {
            Ok(()) => self.last(job, verdict),
            Err(refused) => self.last(job, by_policy(Failure::from(refused))),
        }
    }

    /// Whether its handler allows fewer attempts than the broker was told.
    fn is_stricter(&self, job: &Job<()>) -> bool {
        job.message.max_attempts().is_none() && job.max_attempts < self.most_attempts().get()
    }

    /// A retry after the last attempt that the handler allows, where the broker would allow more, is a death.
    fn last(&self, job: &Job<()>, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Retry { error, .. } if job.attempt >= job.max_attempts && self.is_stricter(job) => {
                Verdict::DeadLetter { reason: Refusal::MaxAttempts, error }
            }
            verdict => verdict,
        }
    }
}

/// Calls the handler when it is its turn, where `free` slots allow waiting for it.
pub(super) async fn supervised(
    route: Arc<Route>,
    job: Job<()>,
    backlog: &Backlog,
    free: impl FnOnce() -> usize,
) -> Ended {
    if job.lease.is_over() {
        return Ended::LeaseLost { has_begun: false };
    }
    let turn = match route.turn(backlog, free) {
        Ok(turn) => turn,
        Err(after) => return Ended::NoTurn(after),
    };
    let span = tracing::info_span!("job", queue = %job.queue, id = %job.message.id(), attempt = job.attempt);
    let lease = job.lease.clone();
    let run = async {
        let Ok(_turn) = turn.come().await else { return Ended::NeverBegan };
        route.timeout.into_iter().for_each(|after| lease.begin_timeout(after));
        tokio::select! {
            biased;
            result = async { route.handler.run(job).await } => Ended::Returned(result),
            after = passed(route.timeout) => Ended::TimedOut(after),
        }
    };
    tokio::select! {
        biased;
        ended = run.instrument(span) => ended,
        () = lease.lost() => Ended::LeaseLost { has_begun: true },
    }
}

async fn passed(timeout: Option<Duration>) -> Duration {
    match timeout {
        Some(after) => {
            sleep(after).await;
            after
        }
        None => pending().await,
    }
}

/// The message's schema version, when its major part is not the one that the handler reads.
fn foreign_version<'m>(handler: &dyn ErasedHandler, message: &'m Message) -> Option<&'m str> {
    let (reads, is) = (handler.version()?, message.schema_version()?);
    (major(reads) != major(is)).then_some(is)
}

fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or(version)
}

fn words(payload: &(dyn Thing + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("(a payload that is no text)")
}

/// A failure fit for the log: what a decoder says may quote the payload.
fn said(failure: &Failure) -> &str {
    match failure {
        Failure::Retry { error, .. } | Failure::Fatal { error } => error,
        Failure::Undecodable { .. } => "the payload cannot be read",
        Failure::Snooze(_) => "snoozed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QueueName;

    fn executor() -> Executor {
        Executor {
            routes: Routes::default(),
            unknown: UnknownKinds::default(),
            versions: Versions::default(),
            retry: RetryPolicy::default(),
            limits: Limits::default(),
            jitter: Arc::new(Jitter::seeded(0)),
        }
    }

    fn job() -> Job<()> {
        Job::of(QueueName::from_static("q"), ())
    }

    #[test]
    fn a_dropped_task_is_a_failure_that_counts() {
        let verdict = executor().judge(&job(), Ended::Dropped);
        assert_eq!(verdict, Some(Verdict::retry(Duration::from_secs(1), "the handler's task was aborted")));
    }

    #[tokio::test]
    async fn a_wait_beyond_the_limits_becomes_a_retry_that_says_so() {
        let snooze = Failure::Snooze(Duration::from_secs(400 * 24 * 60 * 60));
        let Some(Verdict::Retry { error, .. }) = executor().judge(&job(), Ended::Returned(Err(snooze)))
        else {
            panic!("not a retry");
        };
        assert!(error.contains("365 days"), "{error}");
    }

    #[test]
    fn what_a_decoder_says_is_not_logged() {
        assert!(!said(&Failure::Undecodable { error: "invalid type: \"secret\"".into() }).contains("secret"));
    }
}
