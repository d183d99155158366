//! The worker's own tasks and waits.

use std::future::pending;

use tokio::task::JoinError;
use tokio::time::{Instant, sleep_until};

/// Passes on a panic of one of the worker's own tasks, which is one of the backend.
pub(super) fn unbroken(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// For ever where there is no end.
pub(super) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
