//! A bound for what the client library may never end by itself: on a connection that is dying it answers nothing.

use std::future::Future;
use std::io::{Error, ErrorKind};
use std::time::Duration;

use tokio::time::timeout;

/// How long the broker may take to answer on a consumer's channel before its connection counts as lost.
const ANSWER: Duration = Duration::from_secs(10);

/// The answer to a command, in time.
pub(crate) async fn answered<T>(command: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
    let late = |_| Err(Error::from(ErrorKind::TimedOut).into());
    timeout(ANSWER, command).await.unwrap_or_else(late)
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
        let late = answered(std::future::pending::<lapin::Result<()>>()).await.unwrap_err();
        assert!(is_late(&late), "{late}");
        assert!(answered(std::future::ready(Ok(1))).await.is_ok());
    }
}
