//! Where the replies for one inbox wait for their reader: so many and no more, for a reader who does not come.

use std::collections::VecDeque;
use std::pin::pin;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::{Error, Result};

/// The replies that nobody has taken yet.
#[derive(Debug)]
pub struct ReplyBuffer<T> {
    replies: Mutex<Replies<T>>,
    changed: Notify,
}

#[derive(Debug)]
struct Replies<T> {
    waiting: VecDeque<T>,
    bytes: usize,
    closed: bool,
}

impl<T> Default for ReplyBuffer<T> {
    fn default() -> Self {
        let replies = Replies { waiting: VecDeque::new(), bytes: 0, closed: false };
        Self { replies: Mutex::new(replies), changed: Notify::new() }
    }
}

impl<T> ReplyBuffer<T> {
    /// The most replies that wait.
    pub const MAX_REPLIES: usize = 10_000;
    /// About the most bytes of them: none is added once there are as many.
    pub const MAX_BYTES: usize = 64 * 1024 * 1024;

    /// Adds a reply of so many bytes.
    ///
    /// # Errors
    /// The reply, when there is no room.
    pub fn push(&self, reply: T, bytes: usize) -> Result<(), T> {
        let mut replies = self.replies.lock();
        if replies.waiting.len() >= Self::MAX_REPLIES || replies.bytes >= Self::MAX_BYTES {
            return Err(reply);
        }
        replies.bytes = replies.bytes.saturating_add(bytes);
        replies.waiting.push_back(reply);
        drop(replies);
        self.changed.notify_waiters();
        Ok(())
    }

    /// Everything that has come, as soon as there is something; nothing at `until`. Dropped, it has taken nothing.
    ///
    /// # Errors
    /// [`Error::Closed`] once it was closed.
    pub async fn take(&self, until: Instant) -> Result<Vec<T>> {
        loop {
            // From before the look on, so that nothing comes in between unnoticed.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let replies = self.take_now()?;
            if !replies.is_empty() || timeout_at(until, changed).await.is_err() {
                return Ok(replies);
            }
        }
    }

    /// Nothing is taken from now on.
    pub fn close(&self) {
        self.replies.lock().closed = true;
        self.changed.notify_waiters();
    }

    fn take_now(&self) -> Result<Vec<T>> {
        let mut replies = self.replies.lock();
        if replies.closed {
            return Err(Error::Closed);
        }
        replies.bytes = 0;
        Ok(std::mem::take(&mut replies.waiting).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn all_that_came_is_taken_at_once() {
        let buffer = ReplyBuffer::default();
        let begun = Instant::now();
        assert!(buffer.take(begun + SECOND).await.unwrap().is_empty());
        assert_eq!(begun.elapsed(), SECOND);
        let sender = async {
            tokio::time::sleep(SECOND).await;
            buffer.push(1, 1).and_then(|()| buffer.push(2, 1))
        };
        let (taken, sent) = tokio::join!(buffer.take(begun + 9 * SECOND), sender);
        assert_eq!((taken.unwrap(), sent), (vec![1, 2], Ok(())));
        assert!(buffer.take(begun).await.unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn for_a_reader_who_does_not_come_there_is_an_end() {
        let buffer = ReplyBuffer::default();
        assert_eq!(buffer.push(0, ReplyBuffer::<u32>::MAX_BYTES), Ok(()));
        assert_eq!(buffer.push(1, 0), Err(1));
        assert_eq!(buffer.take(Instant::now()).await.unwrap(), [0]);
        let kept = (0..20_000).filter(|reply| buffer.push(*reply, 1).is_ok()).count();
        assert_eq!(kept, ReplyBuffer::<u32>::MAX_REPLIES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_ends_every_take() {
        let buffer = ReplyBuffer::<u32>::default();
        let until = Instant::now() + SECOND;
        let (first, second, ()) =
            tokio::join!(buffer.take(until), buffer.take(until), async { buffer.close() });
        assert!(matches!((first, second), (Err(Error::Closed), Err(Error::Closed))));
        assert!(matches!(buffer.take(until).await, Err(Error::Closed)));
        assert!(Instant::now() < until);
    }
}
