//! Replies: published straight to an inbox, anybody's.

use crate::connection::handle::Handle;
use crate::connection::request::{Confirm, PublishRequest};
use crate::publish::requests::properties;
use polyqueue::backend::not_found_if_all;
use polyqueue::{Error, Message, Published, ReplyAddress, Result};
use std::sync::Arc;
use tokio::time::Instant;

/// Kept in memory only: a reply is worth nothing after its reader.
const TRANSIENT: u8 = 1;

/// Whether the broker hands a reply over without a queue. It does so and returns it all the same: nobody can tell whether the
/// requester is still there.
fn is_direct(to: &ReplyAddress) -> bool {
    to.as_str().starts_with("amq.rabbitmq.reply-to.")
}

/// Publishes replies to an inbox, anybody's.
///
/// # Errors
/// `NotFound` when it is gone.
pub(crate) async fn publish_replies(
    handle: &Arc<Handle>,
    to: &ReplyAddress,
    batch: &[Message],
    by: Instant,
) -> Result<Vec<Result<Published>>> {
    let now = handle.now();
    let request = |message: &Message| PublishRequest {
        exchange: String::new(),
        key: to.as_str().to_owned(),
        properties: properties(message, now).with_delivery_mode(TRANSIENT),
        body: message.payload().clone(),
    };
    let answers = handle.send(batch.iter().map(request), by).await?;
    let result = |(answer, message): (Result<Confirm>, &Message)| match answer? {
        Confirm::Unroutable if !is_direct(to) => Err(Error::not_found(to)),
        Confirm::Stored | Confirm::Unroutable => Ok(Published::stored(message.id().clone())),
    };
    not_found_if_all(answers.into_iter().zip(batch).map(result).collect())
}
