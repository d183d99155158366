//! Messages that the server gave to a consumer unasked: leased already, read like those that were claimed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use polyqueue::backend::Deadline;
use polyqueue::{Message, Priority};
use tokio::time::Instant;

use crate::claim::Leased;
use crate::codec::{self, Fields, Unreadable};
use crate::keys::QueueKeys;
use crate::link::{Link, Request};
use crate::settler::Judged;
use crate::{packed, scripts, settler};

/// A message under a lease, for one who did not ask.
pub(crate) struct Given {
    keys: QueueKeys,
    lease: String,
    /// When it was leased, by the server's clock, in ms.
    pub(crate) at: u64,
    attempt: u32,
    message: Result<Message, Unreadable>,
}

impl Given {
    /// From a MessagePack array of names and values: `P`, `lease` and `now`, then the entry's.
    pub(crate) fn read(text: Bytes) -> Option<Self> {
        let mut fields = Fields::from_pairs(packed::unpack(text)?);
        let head = fields.split_front(3);
        let (keys, lease) =
            (QueueKeys::with_prefix(head.text("P").ok()??), head.text("lease").ok()??.to_owned());
        let at = head.text("now").ok()??.parse().ok()?;
        let mut parts = lease.splitn(3, ':');
        let (p, id) = (parts.next()?.parse::<i64>().ok()?, parts.next()?);
        let message = codec::read(&fields, id, Priority::new(p).ok()?);
        let attempt = fields.number("a").ok().flatten().unwrap_or_default().saturating_add(1);
        Some(Self { keys, lease, at, attempt, message })
    }

    pub(crate) fn until(self, until: Instant) -> Leased {
        Leased { lease: self.lease, until, attempt: self.attempt, message: self.message }
    }

    /// Gives it back where nobody can handle it, attempt unburned. Should it fail, it comes back at the end of its lease.
    pub(crate) async fn give_back(self, link: Arc<Link>) {
        let limit = Deadline::new("giving a message back", Duration::from_secs(5));
        let mut request = Request::script(&scripts::SETTLE, &self.keys);
        settler::write(&Judged::unhanded(self.lease, Instant::now()), &mut request);
        let _ = link.call(request, limit).await;
    }
}
