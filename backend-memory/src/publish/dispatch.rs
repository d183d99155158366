//! Where a publish goes: to a queue, to the queues of a topic, or to an inbox.

use polyqueue::backend::begin_delays;
use polyqueue::{Bytes, Destination, Error, Message, MessageId, Published, QueueName, ReplyAddress, Result};

use crate::broker::state::publish;
use crate::broker::state::stored::Stored;
use crate::connection::handle::Handle;
use crate::publish::pending::PendingPublish;
use crate::publish::single::{self, Single};

/// Stores each message in every queue that it reaches, or in none; replies go to their inbox.
///
/// # Errors
/// `NotFound` when nothing is there, what befalls all that are left, or `Closed`.
pub(crate) async fn publish(
    handle: &Handle,
    to: &Destination,
    mut batch: Vec<Message>,
) -> Result<Vec<Result<Published>>> {
    let now = handle.clock.now();
    begin_delays(&handle.limits, to, &mut batch, handle.wall_at(now))?;
    if let (Destination::Queue(queue), 1) = (to, batch.len())
        && let Some(message) = batch.pop()
    {
        match single::publish(handle, queue, message, now) {
            Single::Answered(answer) => return Ok(vec![answer]),
            Single::GoOn(message) => batch.push(message),
        }
    }
    match to {
        Destination::Reply(address) => reply(handle, address, batch),
        _ => PendingPublish::new(handle, to, batch).await,
    }
}

fn reply(handle: &Handle, to: &ReplyAddress, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
    let now = handle.wall();
    let ids: Vec<MessageId> = batch.iter().map(|reply| reply.id().clone()).collect();
    let replies = batch.into_iter().map(|reply| handle.keep(reply, now));
    let put = handle.namespace.reply_buffers.put(to, replies)?;
    Ok(put.into_iter().zip(ids).map(|(put, id)| put.map(|()| Published::stored(id))).collect())
}

/// Puts bytes where a message would be.
///
/// # Errors
/// `NotFound` for an unknown queue, `Full` beyond the budget.
pub(crate) fn publish_unreadable(handle: &Handle, queue: &QueueName, bytes: Bytes) -> Result<()> {
    let reservation = handle.budget.reserve(&Message::new(bytes.clone()))?;
    handle.queue(queue)?.hold(|state, _| {
        if state.is_deleted() {
            return Err(Error::not_found(queue));
        }
        publish::enter(state, Stored::unreadable(bytes, reservation));
        publish::announce(state);
        Ok(())
    })
}
