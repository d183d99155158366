//! What a handle keeps to settle: one batch for each queue, which its consumers share.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use polyqueue::QueueName;
use polyqueue::backend::Batcher;

use crate::connection::handle::Handle;
use crate::settle::batch::SettleCall;
use crate::wire::names::QueueKeys;

/// What a handle keeps to settle.
pub(crate) struct Settlers {
    handle: Arc<Handle>,
    queues: Mutex<HashMap<QueueName, Arc<QueueSettler>>>,
}

/// What a handle keeps to settle for one queue.
pub(crate) struct QueueSettler {
    pub(crate) queue: QueueName,
    pub(crate) keys: QueueKeys,
    pub(crate) batcher: Arc<Batcher<SettleCall>>,
}

impl Settlers {
    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        Self { handle, queues: Mutex::default() }
    }

    pub(crate) fn of(&self, queue: &QueueName) -> Arc<QueueSettler> {
        let mut queues = self.queues.lock();
        if let Some(settler) = queues.get(queue) {
            return settler.clone();
        }
        let settler = Arc::new(QueueSettler::new(&self.handle, queue));
        queues.insert(queue.clone(), settler.clone());
        settler
    }

    /// Forgets a queue that is gone.
    pub(crate) fn forget(&self, queue: &QueueName) {
        self.queues.lock().remove(queue);
    }
}

impl QueueSettler {
    fn new(handle: &Handle, queue: &QueueName) -> Self {
        let keys = QueueKeys::new(&handle.namespace, queue);
        let call =
            SettleCall { node: handle.node.clone(), keys: keys.clone(), meter: handle.meter.of(queue) };
        let batcher = Batcher::new(call, handle.deadline, handle.lifecycle.clone());
        Self { queue: queue.clone(), keys, batcher }
    }
}
