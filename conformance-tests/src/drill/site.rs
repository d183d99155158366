//! Where a drill takes place.

use std::process::Command;
use std::sync::Arc;

use polyqueue::{ConnectOptions, Queue, Result, async_trait};

use crate::{Fail, Faults, Linked, Time};

/// A broker for a drill, and what can be done to it.
#[async_trait]
pub trait Site: Send + Sync + 'static {
    /// What reports call it.
    fn name(&self) -> &'static str;

    /// Whose clock decides.
    fn time(&self) -> Time {
        Time::Real
    }

    /// A fresh client at each call; where `options` have no URL, beside all links.
    async fn open(&self, options: ConnectOptions) -> Result<Arc<dyn Queue>>;

    /// A new link to the broker. Asked after the first [`Site::open`].
    ///
    /// # Errors
    /// When no link can be had.
    async fn link(&self) -> std::result::Result<Linked, Fail>;

    /// Control over the broker; none over one that is somebody else's.
    fn faults(&self) -> Option<Arc<dyn Faults>>;

    /// What starts a process that calls [`work`](super::work) for the same broker; `None` where none can join.
    fn process(&self) -> Option<Command> {
        None
    }

    /// Whether what a connection holds is free as soon as the broker misses the connection.
    fn holds_by_connection(&self) -> bool {
        false
    }
}
