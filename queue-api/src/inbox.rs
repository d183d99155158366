//! Where replies come in.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::{Message, ReplyAddress, Result};

/// Takes in replies, for one reader. It is no queue: nothing is kept for a reader that is away, nothing is settled, and it
/// leaves nothing at the broker when it is dropped. A reply that finds no inbox is told so at once, as
/// [`NotFound`](crate::Error::NotFound).
///
/// [`Requester`](crate::Requester) stands above it.
#[async_trait]
pub trait Inbox: fmt::Debug + Send + Sync {
    /// What requesters write into [`Message::with_reply_to`](crate::Message::with_reply_to). It stays the same over
    /// reconnections.
    fn address(&self) -> &ReplyAddress;

    /// What has come, at least one; empty after `wait`.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed) once the handle is closed, [`Error::Invalid`](crate::Error::Invalid) for a wait beyond 24 hours. While the broker is away
    /// it waits: replies of that time are lost.
    async fn receive(&self, wait: Duration) -> Result<Vec<Message>>;
}
