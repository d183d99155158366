//! What the client library is asked, and how long it takes to answer.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::time::Duration;

use polyqueue::backend::{OpenCall, OpenCalls};
use tokio::time::{Instant, sleep};

use crate::connection::progress::{Asked, Progress};

/// So long nothing may come …
const QUIET: Duration = Duration::from_secs(1);
/// … looked for so often.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The calls of one server's connections.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    open: OpenCalls,
    /// Calls of these names get no answer.
    #[cfg(test)]
    pub(crate) starved: crate::connection::starved::Starved,
}

impl Answers {
    /// A call begins; `what` names it.
    pub(super) fn begin(&self, what: &'static str) -> OpenCall {
        self.open.begin(what)
    }

    /// A call, and its answer.
    pub(super) async fn awaited<T>(&self, what: &'static str, call: impl Future<Output = T>) -> T {
        let _open = self.begin(what);
        self.heard(what, call).await
    }

    /// The answer to a call that has begun.
    pub(super) async fn heard<T>(&self, _what: &'static str, call: impl Future<Output = T>) -> T {
        let answer = call.await;
        #[cfg(test)]
        self.starved.heard(_what).await;
        answer
    }

    /// Of a call that brings much, and may take long while bytes come: it counts as unanswered once a later one has its answer, or
    /// nothing comes at all.
    pub(super) async fn passed_over(
        &self,
        what: &'static str,
        progress: &Progress,
        asked: Asked,
    ) -> Infallible {
        let since = Instant::now();
        while !progress.is_passed_over(asked) && progress.silence() < QUIET {
            sleep(LOOK_AGAIN).await;
        }
        let _open = self.open.begun(what, since);
        pending().await
    }

    /// A call that is not answered though it should be, in words.
    pub(crate) fn overdue(&self) -> Option<String> {
        self.open.overdue()
    }
}
