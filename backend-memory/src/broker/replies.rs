//! Where the replies for one inbox stand until they are read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use polyqueue::backend::ReplyBuffer;
use polyqueue::{Error, Message, ReplyAddress, Result};

use crate::broker::budget::Reservation;

/// The replies for one inbox, with the room that each takes in the broker.
pub(crate) type Replies = ReplyBuffer<(Message, Reservation)>;

/// The inboxes of a namespace, by their addresses.
#[derive(Debug, Default)]
pub(crate) struct ReplyBuffers(Mutex<HashMap<ReplyAddress, Arc<Replies>>>);

impl ReplyBuffers {
    /// A new one, under an address that no other has or had in this process.
    pub(crate) fn open(&self) -> (ReplyAddress, Arc<Replies>) {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let address = ReplyAddress::new(format!("memory-inbox-{}", SERIAL.fetch_add(1, Relaxed)));
        let (address, replies) = (address.expect("a short text"), Arc::<Replies>::default());
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
        let full = |_| Error::full("the inbox (replies)", Replies::MAX_REPLIES as u64);
        // Their bytes are counted by the broker's budget.
        Ok(replies.map(|reply| buffer.push(reply?, 0).map_err(full)).collect())
    }
}
