//! Channels that stay, for one call at a time each.

use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;
use polyqueue::Result;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::connection::control_channel::ControlChannel;
use crate::connection::publisher::lost;

/// At most so many channels; whoever comes when all are taken waits for his turn.
pub(crate) struct Standing {
    turns: Semaphore,
    /// The one that was used last is taken first.
    free: Mutex<Vec<Arc<ControlChannel>>>,
}

/// The right to one of them.
pub(crate) struct Turn<'a> {
    standing: &'a Standing,
    _permit: SemaphorePermit<'a>,
}

/// A channel in the hands of one call.
pub(crate) struct Taken<'a> {
    channel: Arc<ControlChannel>,
    turn: Turn<'a>,
}

impl Standing {
    pub(crate) fn new(most: usize) -> Self {
        Self { turns: Semaphore::new(most), free: Mutex::default() }
    }

    pub(crate) async fn turn(&self) -> Result<Turn<'_>> {
        let permit = self.turns.acquire().await.map_err(|_| lost())?;
        Ok(Turn { standing: self, _permit: permit })
    }
}

impl<'a> Turn<'a> {
    /// A channel that is free and will do. The others end.
    pub(crate) fn free(&self, will_do: impl Fn(&ControlChannel) -> bool) -> Option<Arc<ControlChannel>> {
        let mut free = self.standing.free.lock();
        free.retain(|channel| will_do(channel));
        free.pop()
    }

    /// Takes this one, and leaves it to the next call.
    pub(crate) fn with(self, channel: Arc<ControlChannel>) -> Taken<'a> {
        Taken { channel, turn: self }
    }
}

impl Deref for Taken<'_> {
    type Target = ControlChannel;

    fn deref(&self) -> &ControlChannel {
        &self.channel
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.turn.standing.free.lock().push(self.channel.clone());
    }
}
