//! The queues of a namespace, and which of them a routing key reaches.

use std::collections::BTreeMap;
use std::sync::Arc;

use polyqueue::{Error, Meter, QueueName, QueueSpec, Result, RoutingKey};

use crate::broker::locked_queue::LockedQueue;
use crate::broker::queue_ref::QueueRef;
use crate::mutants::{Bug, planted};

/// The queues of a namespace.
#[derive(Debug, Default)]
pub(crate) struct Queues(pub(crate) BTreeMap<QueueName, Declared>);

/// A queue as it was declared and bound.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) spec: QueueSpec,
    pub(crate) queue: Arc<LockedQueue>,
}

impl Queues {
    pub(crate) fn get(&self, queue: &QueueName) -> Option<&Arc<LockedQueue>> {
        Some(&self.0.get(queue)?.queue)
    }

    pub(crate) fn specs(&self) -> Vec<QueueSpec> {
        self.0.values().map(|declared| declared.spec.clone()).collect()
    }

    /// The queues that are bound to this key, once each, in the order of their names.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub(crate) fn reached(&self, key: &RoutingKey, meter: &Meter) -> Result<Vec<QueueRef>> {
        let mut reached = Vec::new();
        for (name, declared) in &self.0 {
            if declared.spec.bindings.iter().any(|pattern| pattern.matches(key)) {
                reached.push(QueueRef::new(declared.queue.clone(), meter.of(name)));
            }
        }
        if planted(Bug::FanOutStops) {
            reached.truncate(1);
        }
        if reached.is_empty() { Err(Error::not_found(key)) } else { Ok(reached) }
    }
}
