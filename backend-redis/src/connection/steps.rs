//! Work that takes several calls of a script: it ends at the handle's deadline, between two of them.

use polyqueue::{Certainty, Error, Result};
use tokio::time::Instant;

use crate::address::NAME;
use crate::connection::handle::Handle;

/// # Errors
/// [`Error::Timeout`] when the time of a call that takes several is up; what the calls so far did is done.
pub(crate) fn in_time(handle: &Handle, what: &'static str, end: Instant) -> Result<()> {
    if Instant::now() < end {
        return Ok(());
    }
    Err(Error::timeout(what, handle.deadline, Certainty::Unknown))
}

/// An answer of ours that is none.
pub(crate) fn strange(what: &str) -> Error {
    Error::backend(NAME, Certainty::Unknown, format!("an answer to {what} that is none"))
}
