//! The worker's own tasks.

use tokio::task::JoinError;

/// Passes on a panic of one of the worker's own tasks, which is one of the backend.
pub(super) fn unbroken(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}
