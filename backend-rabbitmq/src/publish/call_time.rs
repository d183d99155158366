//! When a publish was called, and until when it may take.

use std::time::Instant;

use tokio::time;

use crate::connection::handle::Handle;

/// When a publish was called, which is when its delays begin, and when it ends at the latest.
#[derive(Clone, Copy)]
pub(crate) struct CallTime {
    pub(crate) began: Instant,
    pub(crate) by: time::Instant,
}

impl CallTime {
    /// Of one that is called now.
    pub(crate) fn of(handle: &Handle) -> Self {
        Self { began: Instant::now(), by: handle.until() }
    }
}
