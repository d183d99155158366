//! When a client's wheel is to end: its handle was closed, or nobody has it any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::connection::handle::Handle;

/// Told to what works for the wheel.
#[derive(Clone)]
pub(crate) struct Ending {
    handle: Arc<Handle>,
    dropped: watch::Receiver<()>,
}

impl Ending {
    /// With what ends it when it is dropped.
    pub(crate) fn new(handle: Arc<Handle>) -> (Self, watch::Sender<()>) {
        let (alive, dropped) = watch::channel(());
        (Self { handle, dropped }, alive)
    }

    /// How long the end may take: the connections have to end within the handle's deadline, too.
    pub(crate) fn patience(&self) -> Duration {
        self.handle.deadline / 2
    }

    /// Ends when it is to end.
    pub(crate) async fn ended(&self) {
        let mut dropped = self.dropped.clone();
        tokio::select! {
            () = self.handle.closed() => {}
            // Nothing is ever sent.
            _ = dropped.changed() => {}
        }
    }
}
