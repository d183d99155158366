//! A bound for what the client library may never end by itself: on a connection that is dying it answers nothing.

use std::future::Future;
use std::io::{Error, ErrorKind};
use std::time::Duration;

use polyqueue::backend::{OpenCall, OpenCalls};
use tokio::time::timeout;

/// How long the broker may take to answer on a consumer's channel before its connection counts as lost.
const ANSWER: Duration = Duration::from_secs(10);

/// What the client library is asked, and how long it takes to answer. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    open: OpenCalls,
    /// Calls of these names get no answer.
    #[cfg(test)]
    pub(crate) starved: crate::connection::starved::Starved,
}

impl Answers {
    /// The answer to a command, in time; `what` names it.
    pub(crate) async fn answered<T>(
        &self,
        what: &'static str,
        command: impl Future<Output = lapin::Result<T>>,
    ) -> lapin::Result<T> {
        let late = |_| Err(Error::from(ErrorKind::TimedOut).into());
        timeout(ANSWER, self.unbounded(what, command)).await.unwrap_or_else(late)
    }

    /// The same for who has a bound of his own.
    pub(crate) async fn unbounded<T>(&self, what: &'static str, command: impl Future<Output = T>) -> T {
        let _open = self.open.begin(what);
        let answer = command.await;
        #[cfg(test)]
        self.starved.heard(what).await;
        answer
    }

    /// A call begins that is answered elsewhere.
    pub(crate) fn begin(&self, what: &'static str) -> OpenCall {
        self.open.begin(what)
    }

    /// A call that is not answered though it should be, in words.
    pub(crate) fn overdue(&self) -> Option<String> {
        self.open.overdue()
    }

    /// The call that has waited longest, in words.
    pub(crate) fn oldest(&self) -> Option<String> {
        self.open.oldest()
    }
}

/// Whether a command was not answered in time.
pub(crate) fn is_late(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::IOError(error) if error.kind() == ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_never_answered_is_an_error_that_passes() {
        let answers = Answers::default();
        let late = answers.answered("nothing", std::future::pending::<lapin::Result<()>>()).await;
        assert!(is_late(late.as_ref().unwrap_err()), "{late:?}");
        assert!(answers.answered("one", std::future::ready(Ok(1))).await.is_ok());
        assert_eq!(answers.overdue(), None, "both have ended");
    }
}
