//! Inboxes: a channel each, on the connection that there is anyway. No key is ever made for one.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use polyqueue::backend::{Deadline, ReplyBuffer, background, later};
use polyqueue::{Inbox, Message, Priority, ReplyAddress, Result, async_trait};
use tokio::time::Instant;
use uuid::Uuid;

use crate::connection::handle::Handle;
use crate::connection::node::Node;
use crate::connection::notifier::Sink;
use crate::wire::codec::Fields;
use crate::wire::request::Request;
use crate::wire::{codec, msgpack, names};

/// The replies that nobody has read yet.
struct Replies {
    node: Arc<Node>,
    address: String,
    deadline: Duration,
    read: ReplyBuffer<Message>,
    /// What came and has to wait for one before it that is still to be fetched.
    behind: Mutex<Option<VecDeque<Bytes>>>,
}

impl Sink for Arc<Replies> {
    /// One that was stored is fetched, and those behind it wait, so that they stay in order.
    fn take_in(&self, text: Bytes) {
        let mut behind = self.behind.lock();
        match &mut *behind {
            Some(behind) if behind.len() < ReplyBuffer::<Message>::MAX_REPLIES => behind.push_back(text),
            Some(_) => {
                tracing::warn!(name: "redis.inbox_full", "dropped a reply: too many wait for a large one")
            }
            None if text.first() == Some(&b'@') => {
                *behind = Some(VecDeque::from([text]));
                tokio::spawn(fetch_all(self.clone()));
            }
            None => self.take(text),
        }
    }
}

impl Replies {
    /// What nobody can read, and what is too much, is dropped.
    fn take(&self, text: Bytes) {
        let Some(reply) = read(text) else {
            return tracing::warn!(name: "redis.undecodable_reply", "dropped a reply that cannot be read");
        };
        let bytes = reply.payload().len();
        if let Err(reply) = self.read.push(reply, bytes) {
            let id = reply.id();
            tracing::warn!(name: "redis.inbox_full", %id, "dropped a reply: nobody reads this inbox");
        }
    }

    /// What comes next; nothing, and replies are taken as they come again, when nothing waits.
    fn next(&self) -> Option<Bytes> {
        let mut behind = self.behind.lock();
        let next = behind.as_mut().and_then(VecDeque::pop_front);
        if next.is_none() {
            *behind = None;
        }
        next
    }

    /// One that was stored for this inbox, from where it was.
    async fn fetch(&self, key: &[u8]) -> Result<Option<Bytes>> {
        if !key.starts_with(self.address.as_bytes()) {
            return Ok(None);
        }
        let mut request = Request::plain("GETDEL");
        request.arg(key);
        let limit = Deadline::new("fetching a reply", self.deadline);
        Ok(self.node.call_for_much(request, limit).await?.reply.into_bytes())
    }
}

async fn fetch_all(replies: Arc<Replies>) {
    while let Some(text) = replies.next() {
        let Some(key) = text.strip_prefix(b"@") else {
            replies.take(text);
            continue;
        };
        match replies.fetch(key).await {
            Ok(Some(text)) => replies.take(text),
            Ok(None) => {
                tracing::warn!(name: "redis.reply_gone", "dropped a reply that is not there any more")
            }
            Err(error) => tracing::warn!(name: "redis.reply_lost", %error, "dropped a reply"),
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
        let replies = Arc::new(Replies {
            node: handle.node.clone(),
            address: channel.clone(),
            deadline: handle.deadline,
            read: ReplyBuffer::default(),
            behind: Mutex::default(),
        });
        handle.notifier.add_inbox(&channel, Arc::new(replies.clone()));
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
        self.handle.lifecycle.while_open(self.replies.read.take(later(Instant::now(), wait))).await
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
