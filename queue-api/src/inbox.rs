//! Where replies come in.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::{Error, Message, Result};

/// The longest address of an inbox, in bytes of UTF-8.
const MAX_ADDRESS_BYTES: usize = 255;

/// Where replies are to be sent: opaque, made by a backend for an [`Inbox`], or by a foreign client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyAddress(Arc<str>);

impl ReplyAddress {
    /// For backends, and for an address that another client gave.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless it has 1 to 255 bytes and no control characters.
    pub fn new(address: impl AsRef<str>) -> Result<Self> {
        let address = address.as_ref();
        if address.is_empty() || address.len() > MAX_ADDRESS_BYTES || address.chars().any(char::is_control) {
            let given = address.len();
            let allowed = format!("{given} bytes given, allowed are 1 to 255 without control characters");
            return Err(Error::invalid("reply address", allowed));
        }
        Ok(Self(address.into()))
    }

    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReplyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

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
    /// [`Error::Closed`] once the handle is closed, [`Error::Invalid`] for a wait beyond 24 hours. While the broker is away
    /// it waits: replies of that time are lost.
    async fn receive(&self, wait: Duration) -> Result<Vec<Message>>;
}
