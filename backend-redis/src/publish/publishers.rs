//! What a handle keeps to publish: the batches of each queue, and that of all topics.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use polyqueue::QueueName;
use polyqueue::backend::Batcher;

use crate::connection::handle::Handle;
use crate::publish::batch::{KnownRules, PublishCall};
use crate::publish::fan_out::TopicPublishCall;
use crate::topology::catalogue::Catalogue;
use crate::topology::revival::Revival;
use crate::wire::names::QueueKeys;

/// What a handle keeps to publish.
pub(crate) struct Publishers {
    pub(crate) handle: Arc<Handle>,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) revival: Arc<Revival>,
    pub(crate) topics: Arc<Batcher<TopicPublishCall>>,
    queues: Mutex<HashMap<QueueName, Arc<QueuePublisher>>>,
}

/// What a handle keeps to publish to one queue.
pub(crate) struct QueuePublisher {
    pub(crate) queue: QueueName,
    pub(crate) batcher: Arc<Batcher<PublishCall>>,
    pub(crate) known_rules: Arc<KnownRules>,
    /// Set once it is known that the queue keeps dedup keys.
    pub(crate) keeps_keys: OnceLock<()>,
}

impl Publishers {
    pub(crate) fn new(handle: Arc<Handle>, catalogue: Arc<Catalogue>, revival: Arc<Revival>) -> Self {
        let topics = TopicPublishCall {
            node: handle.node.clone(),
            namespace: handle.namespace.clone(),
            catalogue: catalogue.clone(),
            revival: revival.clone(),
            meter: handle.meter.clone(),
        };
        let topics = Batcher::new(topics, handle.deadline, handle.lifecycle.clone());
        Self { handle, catalogue, revival, topics, queues: Mutex::default() }
    }

    pub(crate) fn of(&self, queue: &QueueName) -> Arc<QueuePublisher> {
        let mut queues = self.queues.lock();
        if let Some(publisher) = queues.get(queue) {
            return publisher.clone();
        }
        let publisher = Arc::new(QueuePublisher::new(&self.handle, self.revival.clone(), queue));
        queues.insert(queue.clone(), publisher.clone());
        publisher
    }

    /// Forgets what is known of a queue.
    pub(crate) fn forget(&self, queue: &QueueName) {
        self.queues.lock().remove(queue);
    }
}

impl QueuePublisher {
    fn new(handle: &Handle, revival: Arc<Revival>, queue: &QueueName) -> Self {
        let known_rules = Arc::<KnownRules>::default();
        let call = PublishCall {
            node: handle.node.clone(),
            queue: queue.clone(),
            keys: QueueKeys::new(&handle.namespace, queue),
            meter: handle.meter.of(queue),
            known_rules: known_rules.clone(),
            revival,
        };
        Self {
            queue: queue.clone(),
            batcher: Batcher::new(call, handle.deadline, handle.lifecycle.clone()),
            known_rules,
            keeps_keys: OnceLock::new(),
        }
    }
}
