//! An inbox: reads the replies to one address.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use polyqueue::{Inbox, Message, ReplyAddress, Result};
use tokio::time::Instant;

use crate::broker::replies::Replies;
use crate::connection::handle::Handle;

/// Reads the replies to one address.
pub(crate) struct MemoryInbox {
    address: ReplyAddress,
    replies: Arc<Replies>,
    handle: Arc<Handle>,
}

impl MemoryInbox {
    /// # Errors
    /// `Closed` when the handle was closed.
    pub(crate) fn open(handle: &Arc<Handle>) -> Result<Self> {
        let (address, replies) = handle.namespace.reply_buffers.open();
        handle.inboxes.lock().insert(address.clone(), replies.clone());
        let inbox = Self { address, replies, handle: handle.clone() };
        handle.lifecycle.check_open()?;
        Ok(inbox)
    }
}

#[async_trait]
impl Inbox for MemoryInbox {
    fn address(&self) -> &ReplyAddress {
        &self.address
    }

    async fn receive(&self, wait: Duration) -> Result<Vec<Message>> {
        tokio::task::coop::consume_budget().await;
        self.handle.lifecycle.check_open()?;
        self.handle.limits.check_wait(wait)?;
        let replies = self.replies.take(Instant::now() + wait).await?;
        Ok(replies.into_iter().map(|(reply, _)| reply).collect())
    }
}

impl fmt::Debug for MemoryInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryInbox").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for MemoryInbox {
    fn drop(&mut self) {
        self.handle.namespace.reply_buffers.close(&self.address);
        self.handle.inboxes.lock().remove(&self.address);
    }
}
