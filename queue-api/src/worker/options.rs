//! What one handler is told otherwise than its worker.

use std::time::Duration;

use crate::{Error, Result, RetryPolicy};

/// What one handler is told otherwise than its [`Worker`](crate::Worker); what is not set is as there.
///
/// ```
/// use std::time::Duration;
/// use polyqueue::{Backoff, HandlerOptions, RetryPolicy};
///
/// // A partner's API: one call at a time, 10 s each, patient when it is down.
/// let patient = RetryPolicy::new(10, Backoff::new(Duration::from_secs(5), 2.0, Duration::from_secs(600))?)?;
/// let partner = HandlerOptions::new().concurrency(1).timeout(Duration::from_secs(10)).retry(patient);
/// // to be given to `Worker::on_with`, beside the handler
/// # drop(partner);
/// # Ok::<_, polyqueue::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct HandlerOptions {
    pub(super) retry: Option<RetryPolicy>,
    pub(super) timeout: Option<Duration>,
    pub(super) concurrency: Option<usize>,
}

impl HandlerOptions {
    /// Nothing otherwise.
    pub fn new() -> Self {
        Self::default()
    }

    /// How often and when its messages are tried again; see [`Worker::retry`](crate::Worker::retry).
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = Some(policy);
        self
    }

    /// How long it may take; see [`Worker::timeout`](crate::Worker::timeout). The wait for its turn is not counted.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How many of it run at a time in this worker, over all its queues: at least 1, and no more than
    /// [`Worker::concurrency`](crate::Worker::concurrency) allows for all of them; [`Worker::run`](crate::Worker::run)
    /// refuses more.
    ///
    /// What exceeds it does not keep other kinds waiting: such messages wait here for their turn, their leases kept, in at
    /// most a quarter of the places that the worker's concurrency gives their queue, at least one, but never in the last
    /// that is free. What finds none is given back, no attempt counted, and handed out again when its turn is about to come:
    /// by how long the handler took lately and how many were given back before, 1 ms at least and 30 s at most. So each is
    /// handed out a few times, `n` that wait longer than 30 s up to `n / 30` times a second together, and no more than
    /// 1,000 messages a second of one queue are given back so: beyond that the worker fetches nothing for a while.
    ///
    /// Meanwhile no other worker has a message that was given back. Among the messages of such a handler a less urgent one
    /// may go first. A stop gives back what waits.
    #[must_use]
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = Some(handlers);
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        match self.concurrency {
            Some(0) => Err(Error::invalid("concurrency of a handler", "0 given, allowed are 1 or more")),
            _ => Ok(()),
        }
    }
}
