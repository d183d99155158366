//! Who hears what the server says unasked: a bell for each that waits, and inboxes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::claim;
use crate::inbox::Mailbox;
use crate::link::{Limit, Link, Listener};

/// Wakes one who waits, and remembers that it did.
#[derive(Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
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

    /// It rang or was nudged.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }
}

/// Who listens on a handle: bells by their number, inboxes by their channel.
#[derive(Default)]
pub(crate) struct Wakers {
    bells: Mutex<HashMap<u64, Arc<Bell>>>,
    inboxes: Mutex<HashMap<String, Arc<Mailbox>>>,
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

    pub(crate) fn add_inbox(&self, channel: &str) -> Arc<Mailbox> {
        let mailbox = Arc::<Mailbox>::default();
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

impl Listener for Wakers {
    /// On the channel of an inbox a reply; else `<number>|<prefix of the queue>`. One who has gone passes it on.
    fn heard(&self, link: &Arc<Link>, channel: &str, text: Bytes) {
        if let Some(mailbox) = self.inboxes.lock().get(channel) {
            return mailbox.take_in(text);
        }
        let Some((number, prefix)) = std::str::from_utf8(&text).ok().and_then(|text| text.split_once('|'))
        else {
            return;
        };
        let bell = number.parse().ok().and_then(|number: u64| self.bells.lock().get(&number).cloned());
        match bell {
            Some(bell) => bell.ring(),
            None => drop(tokio::spawn(pass_on(link.clone(), prefix.to_owned()))),
        }
    }

    fn reconnected(&self) {
        for bell in self.bells.lock().values() {
            bell.ring();
        }
    }
}

/// Wakes another waiting consumer in our place. Should it fail, the others ask by themselves within five seconds.
pub(crate) async fn pass_on(link: Arc<Link>, prefix: String) {
    let limit = Limit::new("passing on a wake-up", Duration::from_secs(5));
    let _ = link.call(claim::nothing(&prefix), limit).await;
}
