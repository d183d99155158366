//! Replies: published on the channel of an inbox.

use std::sync::Arc;

use futures_util::future::join_all;
use polyqueue::backend::Deadline;
use polyqueue::{Certainty, Error, Published, ReplyAddress, Result};

use crate::address::NAME;
use crate::connection::handle::Handle;
use crate::connection::node::Answer;
use crate::publish::batch::Outgoing;
use crate::wire::codec::Written;
use crate::wire::request::Request;
use crate::wire::{msgpack, names};

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
    let sent = replies.iter().map(|Outgoing { message, published_at }| async move {
        let written = Written::new(message, *published_at);
        let fields = written.fields();
        let mut request = Request::plain("PUBLISH");
        request
            .arg(address.as_str())
            .arg(msgpack::pack(fields.iter().map(|(name, value)| (*name, &**value))));
        let Answer { reply, .. } = handle.node.call(request, limit).await?;
        match reply.number() {
            Some(0) => missing(),
            Some(_) => Ok(Published::stored(message.id().clone())),
            None => Err(Error::backend(NAME, Certainty::Unknown, "an answer to a reply that is none")),
        }
    });
    join_all(sent).await
}
