//! Messages that the server gave to a consumer unasked: leased already, read like those that were claimed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use polyqueue::backend::Deadline;
use polyqueue::{Message, Priority, Result};
use tokio::time::Instant;

use crate::connection::node::Node;
use crate::consume::claim::Leased;
use crate::scripts;
use crate::settle::batch;
use crate::settle::batch::LeaseVerdict;
use crate::wire::codec::{Fields, Unreadable};
use crate::wire::names::QueueKeys;
use crate::wire::request::Request;
use crate::wire::time::millis;
use crate::wire::{codec, msgpack};

/// A message under a lease, for one who did not ask.
pub(crate) struct Pushed {
    keys: QueueKeys,
    lease: String,
    /// When it was leased, by the server's clock, in ms.
    pub(crate) at: u64,
    attempt: u32,
    max_attempts: u32,
    message: Result<Message, Unreadable>,
}

impl Pushed {
    /// From a MessagePack array of names and values: `P`, `lease` and `now`, then the entry's.
    pub(crate) fn read(text: Bytes) -> Option<Self> {
        let mut fields = Fields::from_pairs(msgpack::unpack(text)?);
        let head = fields.split_front(3);
        let (keys, lease) =
            (QueueKeys::with_prefix(head.text("P").ok()??), head.text("lease").ok()??.to_owned());
        let at = head.text("now").ok()??.parse().ok()?;
        let mut parts = lease.splitn(5, ':');
        let (p, id, _nonce) = (parts.next()?.parse::<i64>().ok()?, parts.next()?, parts.next()?);
        let max_attempts = parts.next()?.parse().ok()?;
        let message = codec::read(&fields, id, Priority::new(p).ok()?);
        let attempt = fields.number("a").ok().flatten().unwrap_or_default().saturating_add(1);
        Some(Self { keys, lease, at, attempt, max_attempts, message })
    }

    /// All that can be read of what the server pushed.
    pub(crate) fn read_all(texts: Vec<Bytes>) -> Vec<Self> {
        let read = |text| {
            Self::read(text).or_else(|| {
                warn();
                None
            })
        };
        texts.into_iter().filter_map(read).collect()
    }

    /// When it was given, by the server's clock in µs: its lease says so.
    pub(crate) fn given_at(&self) -> u64 {
        given_at(&self.lease).unwrap_or_default()
    }

    /// As leased for so long, until then by our clock.
    pub(crate) fn leased(self, lease: Duration, until: Instant) -> Leased {
        let ends = self.at + millis(lease);
        let Self { lease, attempt, max_attempts, message, .. } = self;
        Leased { lease, until, ends, attempt, max_attempts, message }
    }

    /// Gives it back where nobody can handle it, attempt unburned. Should it fail, it comes back at the end of its lease.
    pub(crate) async fn give_back(self, node: Arc<Node>) {
        let limit = Deadline::new("giving a message back", Duration::from_secs(5));
        let mut request = Request::script(&scripts::SETTLE, &self.keys);
        batch::write(&LeaseVerdict::unhanded(self.lease), &mut request);
        let _ = node.call(request, limit).await;
    }
}

/// When a lease was given to its holder, by the server's clock in µs; nothing for one that was claimed.
pub(crate) fn given_at(lease: &str) -> Option<u64> {
    let nonce = lease.split(':').nth(2)?;
    nonce.strip_suffix(".given")?.rsplit_once('.')?.1.parse().ok()
}

/// What was pushed is no message: nobody can say whose lease it was.
pub(crate) fn warn() {
    tracing::warn!(name: "redis.strange_message", "was given what is no message");
}
