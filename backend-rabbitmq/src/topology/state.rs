//! What is known of the broker's objects, and the tasks that look after them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use polyqueue::QueueName;
use polyqueue::backend::background;
use tokio::task::JoinHandle;

use crate::connection::handle::Handle;
use crate::connection::publisher::Publisher;
use crate::queue_type::behavior::QueueType;
use crate::queue_type::decide::decide;
use crate::topology::catalogue::Catalogue;
use crate::wire::names::Names;

/// One namespace, as a client sees it.
pub(crate) struct Topology {
    pub(crate) handle: Arc<Handle>,
    pub(crate) names: Names,
    pub(crate) catalogue: Arc<Catalogue>,
    /// Dedup keys are kept in the user's store, not on the broker.
    pub(crate) dedup_elsewhere: bool,
    /// One call at a time makes the catalogue.
    pub(crate) creating: tokio::sync::Mutex<()>,
    /// One call at a time makes delay queues.
    pub(crate) levels: tokio::sync::Mutex<()>,
    /// Over which connection their low levels were seen, by its number from 1.
    low_levels_seen: AtomicU64,
    /// Looks after delayed messages that found no queue.
    pub(crate) watcher: Mutex<Option<Watcher>>,
    /// Keeps the catalogue live for who publishes to topics.
    pub(crate) follower: Mutex<Option<Watcher>>,
    /// The losses of the broker after which nothing is held for seen any more.
    losses_seen: AtomicU64,
    /// One call at a time makes again what was lost.
    pub(crate) reviving: tokio::sync::Mutex<()>,
    /// Addresses that this client has given to queues that nobody has listed.
    adopted: Mutex<HashMap<QueueName, Arc<str>>>,
    /// How many delayed messages of this namespace lie where nobody knows their queue.
    pub(crate) stranded: AtomicU64,
}

/// A task that ends with its handle.
pub(crate) struct Watcher(pub(crate) JoinHandle<()>);

impl Watcher {
    pub(crate) fn spawn(topology: &Topology, work: impl Future<Output = ()> + Send + 'static) -> Self {
        let lifecycle = topology.handle.lifecycle.clone();
        Self(background().spawn(async move {
            tokio::select! {
                () = lifecycle.closing() => {}
                () = work => {}
            }
        }))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Topology {
    pub(crate) fn new(handle: Arc<Handle>, names: Names, dedup_elsewhere: bool) -> Self {
        Self {
            catalogue: Arc::new(Catalogue::new(names.catalogue(), handle.events.clone())),
            names,
            dedup_elsewhere,
            creating: tokio::sync::Mutex::default(),
            levels: tokio::sync::Mutex::default(),
            low_levels_seen: AtomicU64::new(0),
            watcher: Mutex::default(),
            follower: Mutex::default(),
            losses_seen: AtomicU64::new(0),
            reviving: tokio::sync::Mutex::default(),
            adopted: Mutex::default(),
            stranded: AtomicU64::new(0),
            handle,
        }
    }

    /// The address that this client has given to a queue.
    pub(crate) fn adopted(&self, queue: &QueueName) -> Option<Arc<str>> {
        self.adopted.lock().get(queue).cloned()
    }

    /// Remembers that it has.
    pub(crate) fn adopt(&self, queue: QueueName, address: Arc<str>) {
        self.adopted.lock().insert(queue, address);
    }

    /// The address of a queue, as far as it was seen.
    pub(crate) fn address(&self, queue: &QueueName) -> Option<Arc<str>> {
        self.catalogue.entry(queue).map(|entry| entry.address).or_else(|| self.adopted(queue))
    }

    /// The kind of broker queue behind a queue.
    pub(crate) fn queue_type(&self, _: &QueueName) -> &'static dyn QueueType {
        decide(self.handle.address.queue_type, self.handle.version())
    }

    /// Whether the low levels of the delay queues were seen, and are looked after, over this connection.
    pub(crate) fn knows_low_levels(&self, publisher: &Publisher) -> bool {
        self.low_levels_seen.load(Relaxed) == publisher.generation()
    }

    /// Where the broker has lost everything, nothing was seen. Answers whether that is news.
    pub(crate) fn forget_what_was_lost(&self) -> bool {
        let losses = self.catalogue.losses();
        let news = self.losses_seen.swap(losses, Relaxed) < losses;
        if news {
            self.low_levels_seen.store(0, Relaxed);
        }
        news
    }

    /// Remembers that they were.
    pub(crate) fn remember_low_levels(&self, publisher: &Publisher) {
        self.low_levels_seen.store(publisher.generation(), Relaxed);
    }
}
