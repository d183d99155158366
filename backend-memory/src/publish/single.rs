//! One message to one queue that takes whatever comes: the way of most publishes.

use std::sync::Arc;

use polyqueue::{Message, Published, QueueName, Result};

use crate::broker::clock::At;
use crate::broker::queue_ref::QueueRef;
use crate::broker::state::publish;
use crate::broker::state::stored::Stored;
use crate::connection::handle::Handle;

/// What became of it.
pub(crate) enum Single {
    Answered(Result<Published>),
    /// It has to go the long way: the queue may refuse it, or has more to do first, or is another one now.
    GoOn(Message),
}

/// Stores a message now, where nothing else can become of it.
pub(crate) fn publish(handle: &Handle, queue: &QueueName, message: Message, now: At) -> Single {
    if message.dedup_key().is_some() {
        return Single::GoOn(message);
    }
    match handle.recent.get(queue) {
        Some(queue_ref) if queue_ref.terms().takes_all() => put(handle, queue_ref, message, now),
        Some(_) => Single::GoOn(message),
        None => {
            if let Ok(queue_ref) = handle.queue(queue) {
                handle.recent.keep(queue_ref);
            }
            Single::GoOn(message)
        }
    }
}

fn put(handle: &Handle, queue_ref: &QueueRef, message: Message, now: At) -> Single {
    let (message, room) = match handle.keep(message, handle.wall_at(now)) {
        Ok(kept) => kept,
        Err(full) => return Single::Answered(Err(full)),
    };
    let id = message.id().clone();
    let mut item = Some(Stored::new(message, room));
    queue_ref.try_call_at(now, |state| {
        if state.queue.is_deleted() {
            handle.recent.forget(queue_ref);
        } else if let Some(item) = item.take() {
            publish::enter(&mut state.queue, item);
            publish::announce(&mut state.queue);
        }
    });
    match item {
        None => Single::Answered(Ok(Published::stored(id))),
        Some(item) => Single::GoOn(Arc::unwrap_or_clone(item.message)),
    }
}
