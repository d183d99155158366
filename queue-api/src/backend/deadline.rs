//! How long a call may take, and what it says when it took longer.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::later::{FAR, later};
use crate::{Certainty, Error, Result};

/// When a call ends at the latest, and what it is called in an error.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    what: &'static str,
    after: Duration,
    connect_by: Instant,
    until: Instant,
}

impl Deadline {
    /// Of a call that ends `after` from now; `what` names it.
    pub fn new(what: &'static str, after: Duration) -> Self {
        let until = later(Instant::now(), after);
        Self { what, after, connect_by: until, until }
    }

    /// The same, giving up earlier where there is no connection.
    #[must_use]
    pub fn connect_by(mut self, instant: Instant) -> Self {
        self.connect_by = instant.min(self.until);
        self
    }

    /// What the call is called.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// When it passes.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Until when to wait for a connection.
    pub fn connect_until(&self) -> Instant {
        self.connect_by
    }

    /// Whether it has passed.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Whether less than a tenth is left: no time for another attempt.
    pub fn is_nearly_over(&self) -> bool {
        self.until.saturating_duration_since(Instant::now()) <= self.after.min(FAR) / 10
    }

    /// What the call says when it has passed.
    pub fn error(&self, certainty: Certainty) -> Error {
        Error::timeout(self.what, self.after, certainty)
    }

    /// A call, ended when it has passed; `certainty`: whether its effect may then have happened.
    ///
    /// # Errors
    /// The call's own, or [`Error::Timeout`].
    pub async fn run<T>(self, certainty: Certainty, call: impl Future<Output = Result<T>>) -> Result<T> {
        timeout_at(self.until, call).await.unwrap_or_else(|_| Err(self.error(certainty)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_in_time_and_says_how_long_it_had() {
        let deadline = Deadline::new("publish", SECOND);
        assert_eq!(deadline.run(Certainty::Unknown, ready(Ok(1))).await.unwrap(), 1);
        let began = Instant::now();
        let error = deadline.run(Certainty::Definite, pending::<Result<()>>()).await.unwrap_err();
        assert_eq!((began.elapsed(), error.certainty()), (SECOND, Certainty::Definite));
        assert_eq!(error.to_string(), "publish timed out after 1s");
        assert!(deadline.is_over());
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_tenth_is_no_time_for_another_attempt() {
        let deadline = Deadline::new("publish", SECOND);
        tokio::time::advance(SECOND * 8 / 10).await;
        assert!(!deadline.is_nearly_over());
        tokio::time::advance(SECOND / 10).await;
        assert!(deadline.is_nearly_over() && !deadline.is_over());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_connection_may_end_earlier_but_not_later() {
        let now = Instant::now();
        let deadline = Deadline::new("receive", SECOND);
        assert_eq!(deadline.connect_until(), now + SECOND);
        assert_eq!(deadline.connect_by(now).connect_until(), now);
        assert_eq!(deadline.connect_by(now + 2 * SECOND).connect_until(), now + SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn no_time_is_too_long() {
        let deadline = Deadline::new("receive", Duration::MAX);
        assert!(!deadline.is_over() && !deadline.is_nearly_over());
        assert!(deadline.run(Certainty::Unknown, ready(Ok(()))).await.is_ok());
        assert_eq!(later(deadline.until(), Duration::ZERO), deadline.until());
        assert!(later(deadline.until(), Duration::MAX) > deadline.until());
    }
}
