//! Marks that we let the server tell us: one that is heard shows that what was asked before it, and has no answer, never gets one.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::wire::request::Request;

/// What a mark begins with: nobody who waits is called so, and no reply.
const BEGINS: u8 = b'?';

/// The marks of one client.
#[derive(Debug)]
pub(super) struct Marks {
    channel: String,
    next: AtomicU64,
    heard: watch::Sender<u64>,
}

impl Marks {
    /// They are told on this channel, on which the client listens as long as it lives.
    pub(super) fn new(channel: String) -> Self {
        Self { channel, next: AtomicU64::new(1), heard: watch::Sender::new(0) }
    }

    /// A new mark, and what lets the server tell it.
    pub(super) fn make(&self) -> (u64, Request) {
        let mark = self.next.fetch_add(1, Ordering::Relaxed);
        let mut request = Request::plain("PUBLISH");
        request.arg(&self.channel).arg(format!("?{mark}"));
        (mark, request)
    }

    /// Something was told.
    pub(super) fn told(&self, text: &[u8]) {
        let Some((&BEGINS, digits)) = text.split_first() else { return };
        let mark = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok());
        if let Some(mark) = mark {
            self.heard.send_if_modified(|last| mark > std::mem::replace(last, mark.max(*last)));
        }
    }

    /// Ends when it was heard, or a later one.
    pub(super) async fn heard(&self, mark: u64) {
        let _ = self.heard.subscribe().wait_for(|last| *last >= mark).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_mark_is_heard_once_it_is_told() {
        let marks = Marks::new("ns:wake:x".into());
        let (mark, request) = marks.make();
        assert_eq!(request.arguments().last().unwrap(), "?1");
        for other in ["1|ns:{q}", "?", "?x", "1", ""] {
            marks.told(other.as_bytes());
        }
        assert!(timeout(Duration::from_secs(1), marks.heard(mark)).await.is_err());
        marks.told(b"?1");
        marks.heard(mark).await;
    }
}
