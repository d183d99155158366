//! Inboxes: a channel each, on the connection that there is anyway. No key is ever made for one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use polyqueue::backend::{Deadline, ReplyBuffer, background, later};
use polyqueue::{Inbox, Message, Priority, ReplyAddress, Result, async_trait};
use tokio::time::Instant;
use uuid::Uuid;

use crate::connection::handle::Handle;
use crate::connection::notifier::Sink;
use crate::wire::codec::Fields;
use crate::wire::{codec, msgpack, names};

/// The replies that nobody has read yet.
struct Replies(ReplyBuffer<Message>);

impl Sink for Replies {
    /// What nobody can read, and what is too much, is dropped.
    fn take_in(&self, text: Bytes) {
        let Some(reply) = read(text) else {
            return tracing::warn!(name: "redis.undecodable_reply", "dropped a reply that cannot be read");
        };
        let bytes = reply.payload().len();
        if let Err(reply) = self.0.push(reply, bytes) {
            let id = reply.id();
            tracing::warn!(name: "redis.inbox_full", %id, "dropped a reply: nobody reads this inbox");
        }
    }
}

fn read(text: Bytes) -> Option<Message> {
    let fields = Fields::from_pairs(msgpack::unpack(text)?);
    let priority = fields.number("p").ok()?.map_or(Ok(Priority::DEFAULT), Priority::new).ok()?;
    codec::read(&fields, "reply", priority).ok()
}

/// An inbox of one handle.
pub(crate) struct RedisInbox {
    handle: Arc<Handle>,
    address: ReplyAddress,
    replies: Arc<Replies>,
}

impl RedisInbox {
    pub(crate) async fn open(handle: &Arc<Handle>) -> Result<Self> {
        let channel = format!("{}{}", names::inboxes(&handle.namespace), Uuid::new_v4().simple());
        let address = ReplyAddress::new(&channel)?;
        let replies = Arc::new(Replies(ReplyBuffer::default()));
        handle.notifier.add_inbox(&channel, replies.clone());
        let inbox = Self { handle: handle.clone(), address, replies };
        handle.subscribe(&channel, Deadline::new("opening an inbox", handle.deadline)).await?;
        Ok(inbox)
    }
}

#[async_trait]
impl Inbox for RedisInbox {
    fn address(&self) -> &ReplyAddress {
        &self.address
    }

    async fn receive(&self, wait: Duration) -> Result<Vec<Message>> {
        self.handle.check_open()?;
        self.handle.info.limits.check_wait(wait)?;
        self.handle.lifecycle.while_open(self.replies.0.take(later(Instant::now(), wait))).await
    }
}

impl Drop for RedisInbox {
    fn drop(&mut self) {
        self.handle.notifier.remove_inbox(self.address.as_str());
        let (handle, address) = (self.handle.clone(), self.address.clone());
        background().spawn(async move {
            let limit = Deadline::new("closing an inbox", handle.deadline);
            handle.unsubscribe(address.as_str(), limit).await;
        });
    }
}

impl fmt::Debug for RedisInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisInbox").field("address", &self.address).finish_non_exhaustive()
    }
}
