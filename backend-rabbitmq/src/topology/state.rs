//! What is known of the broker's objects, and the tasks that look after them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use polyqueue::QueueName;
use polyqueue::backend::background;
use tokio::task::JoinHandle;

use crate::connection::handle::Handle;
use crate::queue_type::behavior::QueueType;
use crate::queue_type::decide::decide;
use crate::topology::catalogue::Catalogue;
use crate::topology::recent::Recent;
use crate::topology::revivals::Revivals;
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
    /// Keeps the catalogue live for who publishes to topics.
    pub(crate) follower: Mutex<Option<Watcher>>,
    /// The losses of the broker after which nothing is held for seen any more.
    losses_seen: AtomicU64,
    pub(crate) revivals: Revivals,
    /// Addresses that this client has given to queues that nobody has listed.
    adopted: Mutex<HashMap<QueueName, Arc<str>>>,
    /// Addresses from which something came back.
    dead_ends: Mutex<Recent>,
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
            follower: Mutex::default(),
            losses_seen: AtomicU64::new(0),
            revivals: Revivals::default(),
            adopted: Mutex::default(),
            dead_ends: Mutex::default(),
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

    /// Whether something came back from this address.
    pub(crate) fn is_dead_end(&self, address: &str) -> bool {
        self.dead_ends.lock().contains(address)
    }

    /// Something came back from it.
    pub(crate) fn note_dead_end(&self, address: Arc<str>) {
        self.dead_ends.lock().insert(address);
    }

    /// Its ways were made again.
    pub(crate) fn forget_dead_end(&self, address: &str) {
        self.dead_ends.lock().remove(address);
    }

    /// The kind of broker queue behind a queue.
    pub(crate) fn queue_type(&self, _: &QueueName) -> &'static dyn QueueType {
        decide(self.handle.address.queue_type, self.handle.version())
    }

    /// Where the broker has lost everything, nothing was seen. Answers whether that is news.
    pub(crate) fn forget_what_was_lost(&self) -> bool {
        let losses = self.catalogue.losses();
        self.losses_seen.swap(losses, Relaxed) < losses
    }
}
