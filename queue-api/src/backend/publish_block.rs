//! Whether a broker takes messages at all: told once when it begins to refuse them, and once when it takes them again.

use parking_lot::Mutex;

use crate::Event;
use crate::backend::EventSender;

/// Whether a broker refuses whoever publishes, and why.
#[derive(Debug)]
pub struct PublishBlock {
    events: EventSender,
    why: Mutex<Option<String>>,
}

impl PublishBlock {
    /// It takes messages. What changes is told there.
    pub fn new(events: EventSender) -> Self {
        Self { events, why: Mutex::default() }
    }

    /// It takes none, for this reason. Answers whether that is news.
    pub fn begin(&self, why: &str) -> bool {
        let mut blocked = self.why.lock();
        let is_news = blocked.is_none();
        if is_news {
            self.events.send_to_all(Event::Blocked { detail: why.to_owned() });
        }
        *blocked = Some(why.to_owned());
        is_news
    }

    /// It takes them again.
    pub fn end(&self) {
        if self.why.lock().take().is_some() {
            self.events.send_to_all(Event::Unblocked);
        }
    }

    /// Why it takes none.
    pub fn why(&self) -> Option<String> {
        self.why.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Lifecycle;

    #[tokio::test(start_paused = true)]
    async fn its_begin_and_its_end_are_told_once() {
        let events = EventSender::new("ns");
        let mut heard = events.events(&Lifecycle::default());
        let block = PublishBlock::new(events);
        block.end();
        assert!(block.begin("memory") && !block.begin("disk"));
        assert_eq!(block.why().as_deref(), Some("disk"));
        block.end();
        block.end();
        assert!(block.begin("memory"));
        for expected in [
            Event::Blocked { detail: "memory".into() },
            Event::Unblocked,
            Event::Blocked { detail: "memory".into() },
        ] {
            assert_eq!(heard.next().await, Some(expected));
        }
    }
}
