//! Replies: published on the channel of an inbox. A large one is stored beside it for a while and only its key is published, for the
//! server cuts off a listener with too much before him.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use polyqueue::backend::Deadline;
use polyqueue::{Certainty, Error, Published, ReplyAddress, Result};
use uuid::Uuid;

use crate::address::NAME;
use crate::connection::handle::Handle;
use crate::publish::batch::Outgoing;
use crate::wire::codec::Written;
use crate::wire::request::Request;
use crate::wire::time::millis;
use crate::wire::{msgpack, names};

/// The most bytes that are published.
const SMALL: usize = 16 * 1024;
/// How long the inbox has to fetch a large one.
const KEPT: Duration = Duration::from_secs(120);

/// Sends replies, in order. An address that is none of this namespace is nobody's.
pub(crate) async fn reply(
    handle: &Arc<Handle>,
    address: &ReplyAddress,
    replies: Vec<Outgoing>,
) -> Vec<Result<Published>> {
    let missing = || Err(Error::not_found(address));
    if !address.as_str().starts_with(&names::inboxes(&handle.namespace)) {
        return replies.iter().map(|_| missing()).collect();
    }
    let _busy = handle.lifecycle.enter();
    let limit = Deadline::new("publish", handle.deadline);
    let (mut sent, mut any_large) = (Vec::with_capacity(replies.len()), false);
    for Outgoing { message, published_at } in &replies {
        let written = Written::new(message, *published_at);
        let packed = msgpack::pack(written.fields().iter().map(|(name, value)| (*name, &**value)));
        let large = packed.len() > SMALL;
        any_large |= large;
        sent.push(async move {
            let heard = match large {
                true => store(handle, address, packed, limit).await?,
                false => tell(handle, address, &packed, limit).await?,
            };
            if heard { Ok(Published::stored(message.id().clone())) } else { Err(Error::not_found(address)) }
        });
    }
    if !any_large {
        return join_all(sent).await;
    }
    // A large one takes two steps: none behind it goes before.
    let mut answers = Vec::with_capacity(sent.len());
    for reply in sent {
        answers.push(reply.await);
    }
    answers
}

/// Says it on the channel. Answers whether anybody is there.
async fn tell(handle: &Handle, address: &ReplyAddress, what: &[u8], limit: Deadline) -> Result<bool> {
    let mut request = Request::plain("PUBLISH");
    request.arg(address.as_str()).arg(what);
    let heard = handle.node.call(request, limit).await?.reply.number();
    let strange = || Error::backend(NAME, Certainty::Unknown, "an answer to a reply that is none");
    heard.map(|heard| heard > 0).ok_or_else(strange)
}

/// Stores it, and says where. What cannot be stored is said by nobody.
async fn store(
    handle: &Handle,
    address: &ReplyAddress,
    packed: impl AsRef<[u8]>,
    limit: Deadline,
) -> Result<bool> {
    let key = format!("{}:{}", address.as_str(), Uuid::new_v4().simple());
    let mut request = Request::plain("SET");
    request.arg(&key).arg(packed).arg("PX").number(millis(KEPT));
    handle.node.call(request, limit).await.map_err(Error::definite)?;
    let heard = tell(handle, address, format!("@{key}").as_bytes(), limit).await?;
    if !heard {
        let mut request = Request::plain("DEL");
        request.arg(&key);
        handle.node.call(request, limit).await.ok();
    }
    Ok(heard)
}
