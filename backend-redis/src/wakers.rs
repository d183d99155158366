//! Who hears what the server says unasked: a bell for each that waits, and inboxes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::claim;
use crate::given::Given;
use crate::inbox;
use crate::keys::QueueKeys;
use crate::link::{Link, Listener};
use polyqueue::Message;
use polyqueue::backend::{Deadline, ReplyBuffer};

/// Wakes one who waits, and remembers that it did.
#[derive(Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    given: Mutex<Vec<Given>>,
    notify: Notify,
}

impl Bell {
    /// There may be messages.
    pub(crate) fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// Something else has changed.
    pub(crate) fn nudge(&self) {
        self.notify.notify_one();
    }

    /// Whether it rang since it was last asked.
    pub(crate) fn take_rung(&self) -> bool {
        self.rung.swap(false, Ordering::AcqRel)
    }

    /// Whether it rang or was given something.
    pub(crate) fn has_news(&self) -> bool {
        self.rung.load(Ordering::Acquire) || !self.given.lock().is_empty()
    }

    /// What the server gave.
    pub(crate) fn take_given(&self) -> Vec<Given> {
        std::mem::take(&mut *self.given.lock())
    }

    fn give(&self, given: Given) {
        self.given.lock().push(given);
        self.notify.notify_one();
    }

    /// It rang or was nudged.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }
}

/// Who listens on a handle: bells by their number, inboxes by their channel.
#[derive(Default)]
pub(crate) struct Wakers {
    bells: Mutex<HashMap<u64, Arc<Bell>>>,
    inboxes: Mutex<HashMap<String, Arc<ReplyBuffer<Message>>>>,
}

impl Wakers {
    pub(crate) fn add(&self, number: u64) -> Arc<Bell> {
        let bell = Arc::<Bell>::default();
        self.bells.lock().insert(number, bell.clone());
        bell
    }

    pub(crate) fn remove(&self, number: u64) {
        self.bells.lock().remove(&number);
    }

    pub(crate) fn add_inbox(&self, channel: &str) -> Arc<ReplyBuffer<Message>> {
        let mailbox = Arc::<ReplyBuffer<Message>>::default();
        self.inboxes.lock().insert(channel.to_owned(), mailbox.clone());
        mailbox
    }

    pub(crate) fn remove_inbox(&self, channel: &str) {
        self.inboxes.lock().remove(channel);
    }

    /// The handle is closed: nobody waits any more.
    pub(crate) fn close(&self) {
        self.inboxes.lock().values().for_each(|mailbox| mailbox.close());
        self.bells.lock().values().for_each(|bell| bell.nudge());
    }
}

impl Wakers {
    fn given(&self, link: &Arc<Link>, bell: Option<Arc<Bell>>, text: Bytes) {
        match (Given::read(text), bell) {
            (Some(given), Some(bell)) => bell.give(given),
            (Some(given), None) => drop(tokio::spawn(given.give_back(link.clone()))),
            (None, _) => tracing::warn!(name: "redis.strange_message", "was given what is no message"),
        }
    }
}

impl Listener for Wakers {
    /// On the channel of an inbox a reply; else a number and `|` and the prefix of the queue, to wake one, or `>` and a message for
    /// it. One who has gone passes it on.
    fn heard(&self, link: &Arc<Link>, channel: &str, text: Bytes) {
        if let Some(mailbox) = self.inboxes.lock().get(channel) {
            return inbox::take_in(mailbox, text);
        }
        let Some(digits) = text.iter().position(|byte| !byte.is_ascii_digit()) else { return };
        let number = std::str::from_utf8(&text[..digits]).ok().and_then(|number| number.parse().ok());
        let bell = number.and_then(|number: u64| self.bells.lock().get(&number).cloned());
        let what = text.slice(digits + 1..);
        match (text[digits], bell) {
            (b'|', Some(bell)) => bell.ring(),
            (b'|', None) => {
                let keys = QueueKeys::with_prefix(&String::from_utf8_lossy(&what));
                drop(tokio::spawn(pass_on(link.clone(), keys)));
            }
            (b'>', bell) => self.given(link, bell, what),
            _ => {}
        }
    }

    fn reconnected(&self) {
        for bell in self.bells.lock().values() {
            bell.ring();
        }
    }
}

/// Wakes another waiting consumer in our place. Should it fail, the others ask by themselves within five seconds.
pub(crate) async fn pass_on(link: Arc<Link>, keys: QueueKeys) {
    let limit = Deadline::new("passing on a wake-up", Duration::from_secs(5));
    let _ = link.call(claim::nothing(&keys), limit).await;
}
