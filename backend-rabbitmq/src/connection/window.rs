//! How much of what is published lies in the client library at a time: it never gives back what it was given.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const MESSAGES: u32 = 1_024;
/// Two of the largest messages.
const BYTES: u32 = 32 * 1024 * 1024;

/// The room for requests that the broker has not confirmed; first come, first served.
#[derive(Clone)]
pub(crate) struct Window {
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// The room of one request. It is given back by the broker's answer, not by who waits for it.
#[derive(Debug)]
pub(crate) struct Permit {
    _messages: OwnedSemaphorePermit,
    _bytes: Option<OwnedSemaphorePermit>,
}

impl Default for Window {
    fn default() -> Self {
        Self { messages: semaphore(MESSAGES), bytes: semaphore(BYTES) }
    }
}

fn semaphore(permits: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits as usize))
}

impl Window {
    /// Waits for room for a message of this many bytes; `None` cannot be, for no window is closed.
    pub(crate) async fn enter(&self, bytes: usize) -> Option<Permit> {
        let messages = self.messages.clone().acquire_owned().await.ok()?;
        let bytes = u32::try_from(bytes).unwrap_or(BYTES).min(BYTES);
        let bytes = self.bytes.clone().acquire_many_owned(bytes).await.ok()?;
        Some(Permit { _messages: messages, _bytes: Some(bytes) })
    }

    /// Waits until everything before is confirmed, and lets nothing in meanwhile.
    pub(crate) async fn enter_alone(&self) -> Option<Permit> {
        let messages = self.messages.clone().acquire_many_owned(MESSAGES).await.ok()?;
        Some(Permit { _messages: messages, _bytes: None })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn there_is_room_for_so_many_messages_and_for_so_many_bytes() {
        let window = Window::default();
        let mut many: Vec<_> = Vec::new();
        for _ in 0..MESSAGES {
            many.push(window.enter(0).now_or_never().unwrap());
        }
        assert!(window.enter(0).now_or_never().is_none());
        many.pop();
        assert!(window.enter(0).now_or_never().is_some());
        many.clear();
        let _large = window.enter(BYTES as usize - 1).now_or_never().unwrap();
        assert!(window.enter(2).now_or_never().is_none());
        assert!(window.enter(1).now_or_never().is_some());
    }

    #[test]
    fn what_is_larger_than_the_window_goes_alone() {
        let window = Window::default();
        let first = window.enter(1).now_or_never().unwrap();
        assert!(window.enter(usize::MAX).now_or_never().is_none());
        drop(first);
        assert!(window.enter(usize::MAX).now_or_never().is_some());
    }

    #[test]
    fn alone_means_after_all_that_came_before_and_before_all_that_comes_after() {
        let window = Window::default();
        let before = window.enter(1).now_or_never().unwrap();
        let mut alone = Box::pin(window.enter_alone());
        assert!((&mut alone).now_or_never().is_none());
        let mut after = Box::pin(window.enter(1));
        assert!((&mut after).now_or_never().is_none());
        drop(before);
        let alone = alone.now_or_never().unwrap();
        assert!((&mut after).now_or_never().is_none());
        drop(alone);
        assert!(after.now_or_never().is_some());
    }
}
