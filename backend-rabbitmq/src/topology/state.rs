//! What is known of the broker's objects, and the tasks that look after them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use polyqueue::QueueName;
use tokio::task::JoinHandle;

use crate::connection::handle::Handle;
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
    /// Looks after delayed messages that found no queue.
    pub(crate) watcher: Mutex<Option<Watcher>>,
    /// Keeps the catalogue live for who publishes to topics.
    pub(crate) follower: Mutex<Option<Watcher>>,
    /// How many delayed messages of this namespace lie where nobody knows their queue.
    pub(crate) stranded: AtomicU64,
}

/// A task that ends with its handle.
pub(crate) struct Watcher(pub(crate) JoinHandle<()>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Topology {
    pub(crate) fn new(handle: Arc<Handle>, names: Names, dedup_elsewhere: bool) -> Self {
        Self {
            catalogue: Arc::new(Catalogue::new(names.catalogue())),
            names,
            dedup_elsewhere,
            creating: tokio::sync::Mutex::default(),
            levels: tokio::sync::Mutex::default(),
            watcher: Mutex::default(),
            follower: Mutex::default(),
            stranded: AtomicU64::new(0),
            handle,
        }
    }

    /// The kind of broker queue behind a queue.
    pub(crate) fn queue_type(&self, _: &QueueName) -> &'static dyn QueueType {
        decide(self.handle.address.queue_type, self.handle.version())
    }

    /// Ends the tasks.
    pub(crate) fn close(&self) {
        self.watcher.lock().take();
        self.follower.lock().take();
    }
}
