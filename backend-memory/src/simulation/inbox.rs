//! An inbox over a line.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use polyqueue::{Error, Inbox, Message, ReplyAddress, Result};
use tokio::time::Instant;

use crate::simulation::call::{Answer, Effect, Pauses, Request, Unread, Wire, Work};
use crate::simulation::size;

/// An inbox over a line: replies that were read and got lost on the way are sent again.
pub(crate) struct LinkedInbox {
    inner: Arc<dyn Inbox>,
    wire: Arc<Wire>,
    lost: Arc<Mutex<Vec<Message>>>,
}

impl LinkedInbox {
    pub(crate) fn new(inner: Arc<dyn Inbox>, wire: Arc<Wire>) -> Self {
        Self { inner, wire, lost: Arc::default() }
    }

    async fn receive_once(&self, wait: Duration) -> Result<Vec<Message>> {
        let (inner, lost, kept) = (self.inner.clone(), self.lost.clone(), self.lost.clone());
        let work: Work<_> = Box::pin(async move {
            let again = std::mem::take(&mut *lost.lock());
            if again.is_empty() { inner.receive(wait).await } else { Ok(again) }
        });
        let unread: Unread<Vec<Message>> = Arc::new(move |replies| {
            kept.lock().extend(replies);
            Box::pin(std::future::ready(()))
        });
        let answer = Answer { bytes: |came: &Vec<Message>| size::of_messages(came), unread: Some(unread) };
        let request = Request { wait, ..Request::new("inbox", Effect::Reads) };
        self.wire.call(request, work, answer).await
    }
}

#[async_trait]
impl Inbox for LinkedInbox {
    fn address(&self) -> &ReplyAddress {
        self.inner.address()
    }

    /// While the broker is away it waits.
    async fn receive(&self, wait: Duration) -> Result<Vec<Message>> {
        let end = Instant::now() + wait.min(Duration::from_secs(1 << 31));
        let (mut left, mut pauses) = (wait, Pauses::new());
        loop {
            match self.receive_once(left).await {
                Err(Error::Unavailable { .. } | Error::Timeout { .. }) if Instant::now() >= end => {
                    return Ok(Vec::new());
                }
                Err(Error::Unavailable { .. } | Error::Timeout { .. }) => pauses.pause(end).await,
                answer => return answer,
            }
            left = end.saturating_duration_since(Instant::now());
        }
    }
}

impl fmt::Debug for LinkedInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkedInbox").field("address", self.address()).finish_non_exhaustive()
    }
}
