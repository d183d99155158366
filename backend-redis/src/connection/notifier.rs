//! Who hears what the server says unasked: a signal for each that waits, and inboxes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use polyqueue::backend::EventSender;
use polyqueue::{Error, Event};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use crate::connection::blocked;
use crate::connection::blocked::Blocked;
use crate::connection::listener::Listener;
use crate::connection::node::Node;
use crate::wire::names::QueueKeys;

/// Wakes one who waits, and remembers that it did.
#[derive(Default)]
pub(crate) struct Signal {
    rung: AtomicBool,
    is_anew: AtomicBool,
    pushed: Mutex<Vec<Bytes>>,
    notify: Notify,
}

impl Signal {
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

    /// The connection was made anew.
    pub(crate) fn set_anew(&self) {
        self.is_anew.store(true, Ordering::Release);
        self.nudge();
    }

    /// Whether the connection was made anew since it was last asked: what was said before and is not here never comes.
    pub(crate) fn take_anew(&self) -> bool {
        self.is_anew.swap(false, Ordering::AcqRel)
    }

    /// Whether it rang or was given something.
    pub(crate) fn has_news(&self) -> bool {
        self.rung.load(Ordering::Acquire) || !self.pushed.lock().is_empty()
    }

    /// What the server gave.
    pub(crate) fn take_pushed(&self) -> Vec<Bytes> {
        std::mem::take(&mut *self.pushed.lock())
    }

    fn push(&self, pushed: Bytes) {
        self.pushed.lock().push(pushed);
        self.notify.notify_one();
    }

    /// It rang or was nudged.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }
}

/// Takes what comes on a channel.
pub(crate) trait Sink: Send + Sync {
    /// Takes one message in.
    fn take_in(&self, text: Bytes);
}

/// What was for one who has gone.
pub(crate) struct Orphan {
    pub(crate) node: Arc<Node>,
    pub(crate) what: Orphaned,
}

/// A wake-up of a queue, or a message under a lease.
pub(crate) enum Orphaned {
    WakeUp(QueueKeys),
    Message(Bytes),
}

/// Who listens on a connection: consumers and publishers by their number, inboxes by their channel.
pub(crate) struct Notifier {
    numbers: AtomicU64,
    signals: Mutex<HashMap<u64, Arc<Signal>>>,
    inboxes: Mutex<HashMap<String, Arc<dyn Sink>>>,
    orphans: UnboundedSender<Orphan>,
    events: EventSender,
    pub(crate) blocked: Arc<Blocked>,
}

impl Notifier {
    pub(crate) fn new(orphans: UnboundedSender<Orphan>, events: EventSender) -> Self {
        let numbers = AtomicU64::new(1);
        let blocked = Blocked::new(events.clone());
        Self { numbers, signals: Mutex::default(), inboxes: Mutex::default(), orphans, events, blocked }
    }

    /// Numbers a consumer, or a publisher that waits for room.
    pub(crate) fn add(&self) -> (u64, Arc<Signal>) {
        let (number, signal) = (self.numbers.fetch_add(1, Ordering::Relaxed), Arc::<Signal>::default());
        self.signals.lock().insert(number, signal.clone());
        (number, signal)
    }

    pub(crate) fn remove(&self, number: u64) {
        self.signals.lock().remove(&number);
    }

    pub(crate) fn add_inbox(&self, channel: &str, replies: Arc<dyn Sink>) {
        self.inboxes.lock().insert(channel.to_owned(), replies);
    }

    pub(crate) fn remove_inbox(&self, channel: &str) {
        self.inboxes.lock().remove(channel);
    }

    fn orphaned(&self, node: &Arc<Node>, what: Orphaned) {
        // Once nobody takes orphans the handle has ended: its leases do, too.
        let _ = self.orphans.send(Orphan { node: node.clone(), what });
    }
}

impl Listener<Node> for Notifier {
    /// On the channel of an inbox a reply; else a number and `|` and the prefix of the queue, to wake one, or `>` and a message for
    /// it. What is for one who has gone is somebody else's.
    fn heard(&self, node: &Arc<Node>, channel: &str, text: Bytes) {
        if let Some(replies) = self.inboxes.lock().get(channel) {
            return replies.take_in(text);
        }
        let Some(digits) = text.iter().position(|byte| !byte.is_ascii_digit()) else { return };
        let number = std::str::from_utf8(&text[..digits]).ok().and_then(|number| number.parse().ok());
        let signal = number.and_then(|number: u64| self.signals.lock().get(&number).cloned());
        let what = text.slice(digits + 1..);
        match (text[digits], signal) {
            (b'|', Some(signal)) => signal.ring(),
            (b'|', None) => {
                self.orphaned(
                    node,
                    Orphaned::WakeUp(QueueKeys::with_prefix(&String::from_utf8_lossy(&what))),
                );
            }
            (b'>', Some(signal)) => signal.push(what),
            (b'>', None) => self.orphaned(node, Orphaned::Message(what)),
            _ => {}
        }
    }

    fn write_refused(&self, node: &Arc<Node>) {
        blocked::watch(&self.blocked, node);
    }

    fn lost(&self, node: &Node, error: &Error) {
        self.events.send_to_all(Event::ConnectionLost { detail: format!("{node}: {error}") });
    }

    fn reconnected(&self, node: &Node) {
        self.events.send_to_all(Event::ConnectionRestored { detail: node.to_string() });
        for signal in self.signals.lock().values() {
            signal.set_anew();
        }
    }
}
