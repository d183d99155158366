//! One delivery: look up its handler, let it run, judge how that ended.

use std::any::Any as Thing;
use std::collections::HashMap;
use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::sleep;
use tracing::Instrument;

use crate::backend::Jitter;
use crate::{Failure, Limits, Message, RetryPolicy, Verdict};

use super::handler::ErasedHandler;
use super::job::Job;

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
    LeaseLost,
}

/// Knows the handlers, and what their endings mean.
pub(super) struct Executor {
    pub(super) handlers: HashMap<&'static str, Arc<dyn ErasedHandler>>,
    pub(super) any: Option<Arc<dyn ErasedHandler>>,
    pub(super) versions: Versions,
    pub(super) timeout: Option<Duration>,
    pub(super) retry: RetryPolicy,
    pub(super) limits: Limits,
    pub(super) jitter: Jitter,
}

impl Executor {
    /// The handler's run, to be given a task of its own; or the verdict on a message that no handler may see.
    pub(super) fn start(
        &self,
        job: Job<()>,
    ) -> Result<impl Future<Output = Ended> + Send + 'static, Verdict> {
        let kind = job.message.kind();
        let Some(handler) = self.handlers.get(kind).or(self.any.as_ref()) else {
            tracing::warn!(name: "worker.no_handler", queue = %job.queue, id = %job.message.id(), kind);
            return Err(Verdict::reject(format!("no handler for kind {kind:?}")));
        };
        self.check_version(handler.as_ref(), &job)?;
        let span =
            tracing::info_span!("job", queue = %job.queue, id = %job.message.id(), attempt = job.attempt);
        Ok(supervised(handler.clone(), job, self.timeout).instrument(span))
    }

    fn check_version(&self, handler: &dyn ErasedHandler, job: &Job<()>) -> Result<(), Verdict> {
        let Some((reads, is)) = handler.version().zip(foreign_version(handler, &job.message)) else {
            return Ok(());
        };
        let (queue, id) = (&job.queue, job.message.id());
        tracing::warn!(name: "worker.other_schema_version", %queue, %id, version = is, handler_reads = reads);
        match self.versions {
            Versions::Warn => Ok(()),
            Versions::Reject => {
                Err(Verdict::reject(format!("schema version {is}; the handler reads {reads}")))
            }
        }
    }

    /// The verdict on how a handler's task ended; `None` when the message is not ours to judge any more.
    pub(super) fn judge(&self, job: &Job<()>, ended: Result<Ended, JoinError>) -> Option<Verdict> {
        let (queue, id, attempt) = (&job.queue, job.message.id(), job.attempt);
        let failure = match ended {
            Ok(Ended::Returned(Ok(()))) => return Some(Verdict::Ack),
            Ok(Ended::Returned(Err(failure))) => failure,
            Ok(Ended::TimedOut(after)) => Failure::from(format!("the handler timed out after {after:?}")),
            Ok(Ended::LeaseLost) => {
                tracing::warn!(name: "worker.lease_lost", %queue, %id, attempt, "the handler's future was dropped");
                return None;
            }
            Err(error) => Failure::from(crash(error)),
        };
        tracing::info!(name: "worker.job_failed", %queue, %id, attempt, failure = said(&failure));
        Some(self.allowed(attempt, self.retry.verdict(attempt, failure, self.jitter.fraction())))
    }

    /// The verdict itself, or a retry that says why the backend would refuse it.
    fn allowed(&self, attempt: u32, verdict: Verdict) -> Verdict {
        match self.limits.check_verdict(&verdict) {
            Ok(()) => verdict,
            Err(refused) => self.retry.verdict(attempt, Failure::from(refused), self.jitter.fraction()),
        }
    }
}

async fn supervised(handler: Arc<dyn ErasedHandler>, job: Job<()>, timeout: Option<Duration>) -> Ended {
    let lease = job.lease.clone();
    tokio::select! {
        biased;
        result = async { handler.run(job).await } => Ended::Returned(result),
        () = lease.lost() => Ended::LeaseLost,
        after = passed(timeout) => Ended::TimedOut(after),
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

fn crash(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => format!("the handler panicked: {}", words(payload.as_ref())),
        Err(_) => "the handler's task was aborted".into(),
    }
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
    use crate::{QueueName, Refusal};

    fn executor() -> Executor {
        Executor {
            handlers: HashMap::new(),
            any: None,
            versions: Versions::default(),
            timeout: None,
            retry: RetryPolicy::default(),
            limits: Limits::default(),
            jitter: Jitter::seeded(0),
        }
    }

    fn job() -> Job<()> {
        Job::of(QueueName::from_static("q"), ())
    }

    #[tokio::test]
    async fn an_aborted_task_is_a_failure_that_counts() {
        let task = tokio::spawn(pending::<Ended>());
        task.abort();
        let verdict = executor().judge(&job(), task.await);
        assert_eq!(verdict, Some(Verdict::retry(Duration::from_secs(1), "the handler's task was aborted")));
    }

    #[tokio::test]
    async fn a_wait_beyond_the_limits_becomes_a_retry_that_says_so() {
        let snooze = Failure::Snooze(Duration::from_secs(400 * 24 * 60 * 60));
        let Some(Verdict::Retry { error, .. }) = executor().judge(&job(), Ok(Ended::Returned(Err(snooze))))
        else {
            panic!("not a retry");
        };
        assert!(error.contains("365 days"), "{error}");
    }

    #[tokio::test]
    async fn a_kind_without_a_handler_is_rejected() {
        let Err(verdict) = executor().start(job()) else { panic!("started") };
        assert!(matches!(verdict, Verdict::DeadLetter { reason: Refusal::Rejected, .. }));
    }

    #[test]
    fn what_a_decoder_says_is_not_logged() {
        assert!(!said(&Failure::Undecodable { error: "invalid type: \"secret\"".into() }).contains("secret"));
    }
}
