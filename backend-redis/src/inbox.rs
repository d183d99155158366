//! Inboxes: a channel each, on the connection that there is anyway. No key is ever made for one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use polyqueue::backend::{Deadline, ReplyBuffer, later};
use polyqueue::{Certainty, Error, Inbox, Message, Priority, Published, ReplyAddress, Result, async_trait};
use tokio::runtime::Handle;
use tokio::time::Instant;
use uuid::Uuid;

use crate::codec::{self, Fields, Written};
use crate::hub::Hub;
use crate::link::{Answer, Request};
use crate::publisher::Outgoing;
use crate::{NAME, keys, packed};

/// Takes in what came on the channel of an inbox. What nobody can read, and what is too much, is dropped.
pub(crate) fn take_in(replies: &ReplyBuffer<Message>, text: Bytes) {
    let Some(reply) = read(text) else {
        return tracing::warn!(name: "redis.undecodable_reply", "dropped a reply that cannot be read");
    };
    let bytes = reply.payload().len();
    if let Err(reply) = replies.push(reply, bytes) {
        let id = reply.id();
        tracing::warn!(name: "redis.inbox_full", %id, "dropped a reply: nobody reads this inbox");
    }
}

fn read(text: Bytes) -> Option<Message> {
    let fields = Fields::from_pairs(packed::unpack(text)?);
    let priority = fields.number("p").ok()?.map_or(Ok(Priority::DEFAULT), Priority::new).ok()?;
    codec::read(&fields, "reply", priority).ok()
}

/// An inbox of one handle.
pub(crate) struct RedisInbox {
    hub: Arc<Hub>,
    address: ReplyAddress,
    replies: Arc<ReplyBuffer<Message>>,
}

impl RedisInbox {
    pub(crate) async fn open(hub: &Arc<Hub>) -> Result<Self> {
        let channel = format!("{}{}", keys::inboxes(&hub.namespace), Uuid::new_v4().simple());
        let address = ReplyAddress::new(&channel)?;
        let inbox = Self { hub: hub.clone(), address, replies: hub.wakers.add_inbox(&channel) };
        hub.link.subscribe(&channel, Deadline::new("opening an inbox", hub.deadline)).await?;
        Ok(inbox)
    }
}

#[async_trait]
impl Inbox for RedisInbox {
    fn address(&self) -> &ReplyAddress {
        &self.address
    }

    async fn receive(&self, wait: Duration) -> Result<Vec<Message>> {
        self.hub.check_open()?;
        self.hub.info.limits.check_wait(wait)?;
        self.replies.take(later(Instant::now(), wait)).await
    }
}

impl Drop for RedisInbox {
    fn drop(&mut self) {
        self.hub.wakers.remove_inbox(self.address.as_str());
        // Outside any runtime nothing can be sent: the channel ends with the connection.
        let Ok(runtime) = Handle::try_current() else { return };
        let (hub, address) = (self.hub.clone(), self.address.clone());
        runtime.spawn(async move {
            let limit = Deadline::new("closing an inbox", hub.deadline);
            hub.link.unsubscribe(address.as_str(), limit).await;
        });
    }
}

impl fmt::Debug for RedisInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisInbox").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Sends replies, in order. An address that is none of this namespace is nobody's.
pub(crate) async fn reply(
    hub: &Arc<Hub>,
    address: &ReplyAddress,
    replies: Vec<Outgoing>,
) -> Vec<Result<Published>> {
    let missing = || Err(Error::not_found(address));
    if !address.as_str().starts_with(&keys::inboxes(&hub.namespace)) {
        return replies.iter().map(|_| missing()).collect();
    }
    let _busy = hub.busy.enter();
    let limit = Deadline::new("publish", hub.deadline);
    let sent = replies.iter().map(|Outgoing { message, published_at }| async move {
        let written = Written::new(message, *published_at);
        let fields = written.fields();
        let mut request = Request::plain("PUBLISH");
        request.arg(address.as_str()).arg(packed::pack(fields.iter().map(|(name, value)| (*name, &**value))));
        let Answer { reply, .. } = hub.link.call(request, limit).await?;
        match reply.number() {
            Some(0) => missing(),
            Some(_) => Ok(Published::stored(message.id().clone())),
            None => Err(Error::backend(NAME, Certainty::Unknown, "an answer to a reply that is none")),
        }
    });
    join_all(sent).await
}
