//! Where the replies for one inbox stand until they are read.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use polyqueue::{Error, Message, ReplyAddress, Result};
use tokio::sync::Notify;

use crate::broker::budget::Reservation;

/// How many replies stand in an inbox that nobody reads.
pub(crate) const MAX_REPLIES: usize = 10_000;

/// The replies for one inbox.
#[derive(Debug, Default)]
pub(crate) struct ReplyBuffer {
    replies: Mutex<VecDeque<(Message, Reservation)>>,
    /// Something came, or the inbox is closed.
    pub(crate) news: Notify,
}

impl ReplyBuffer {
    fn put(&self, reply: Message, room: Reservation) -> Result<()> {
        let mut replies = self.replies.lock();
        if replies.len() >= MAX_REPLIES {
            return Err(Error::full("the inbox (replies)", MAX_REPLIES as u64));
        }
        replies.push_back((reply, room));
        drop(replies);
        self.news.notify_waiters();
        Ok(())
    }

    /// Everything that has come, leaving nothing.
    pub(crate) fn take(&self) -> Vec<Message> {
        self.replies.lock().drain(..).map(|(reply, _)| reply).collect()
    }
}

/// The inboxes of a namespace, by their addresses.
#[derive(Debug, Default)]
pub(crate) struct ReplyBuffers(Mutex<HashMap<ReplyAddress, Arc<ReplyBuffer>>>);

impl ReplyBuffers {
    /// A new one, under an address that no other has or had in this process.
    pub(crate) fn open(&self) -> (ReplyAddress, Arc<ReplyBuffer>) {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let address = ReplyAddress::new(format!("memory-inbox-{}", SERIAL.fetch_add(1, Relaxed)));
        let (address, replies) = (address.expect("a short text"), Arc::<ReplyBuffer>::default());
        self.0.lock().insert(address.clone(), replies.clone());
        (address, replies)
    }

    pub(crate) fn close(&self, address: &ReplyAddress) {
        self.0.lock().remove(address);
    }

    /// Puts replies into one inbox, in this order.
    ///
    /// # Errors
    /// `NotFound` when it is gone.
    pub(crate) fn put(
        &self,
        address: &ReplyAddress,
        replies: impl Iterator<Item = Result<(Message, Reservation)>>,
    ) -> Result<Vec<Result<()>>> {
        let buffer = self.0.lock().get(address).cloned();
        let buffer = buffer.ok_or_else(|| Error::not_found(address))?;
        Ok(replies.map(|reply| reply.and_then(|(reply, room)| buffer.put(reply, room))).collect())
    }
}
