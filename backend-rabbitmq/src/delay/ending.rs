//! When a client's wheel is to end: its handle was closed, or nobody has it any more.

use std::sync::Arc;

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
