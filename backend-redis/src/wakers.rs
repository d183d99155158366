//! Who is woken by what the server says: a bell for each consumer of a handle.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::claim;
use crate::link::{Limit, Link, Listener};

/// Wakes a consumer, and remembers that it did.
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

/// The bells of a handle, by the number of their consumer.
#[derive(Default)]
pub(crate) struct Wakers(Mutex<HashMap<u64, Arc<Bell>>>);

impl Wakers {
    pub(crate) fn add(&self, consumer: u64) -> Arc<Bell> {
        let bell = Arc::<Bell>::default();
        self.0.lock().insert(consumer, bell.clone());
        bell
    }

    pub(crate) fn remove(&self, consumer: u64) {
        self.0.lock().remove(&consumer);
    }
}

impl Listener for Wakers {
    /// `<consumer>|<prefix of the queue>`. One who has gone passes it on.
    fn heard(&self, link: &Arc<Link>, text: &str) {
        let Some((consumer, prefix)) = text.split_once('|') else { return };
        let bell = consumer.parse().ok().and_then(|consumer: u64| self.0.lock().get(&consumer).cloned());
        match bell {
            Some(bell) => bell.ring(),
            None => drop(tokio::spawn(pass_on(link.clone(), prefix.to_owned()))),
        }
    }

    fn reconnected(&self) {
        for bell in self.0.lock().values() {
            bell.ring();
        }
    }
}

/// Wakes another waiting consumer in our place. Should it fail, the others ask by themselves within five seconds.
pub(crate) async fn pass_on(link: Arc<Link>, prefix: String) {
    let limit = Limit::new("passing on a wake-up", Duration::from_secs(5));
    let _ = link.call(claim::nothing(&prefix), limit).await;
}
