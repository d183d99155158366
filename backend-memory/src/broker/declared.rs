//! The queues of a namespace, and which of them a routing key reaches.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use polyqueue::{QueueName, QueueSpec, RoutingKey};

use crate::broker::locked_queue::LockedQueue;
use crate::broker::queue_ref::QueueRef;

/// So many queues and bindings are looked at under one hold of the lock.
const LOOKS: usize = 900;

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

    /// Looks at the queues behind this one, in the order of their names; the last that was looked at, unless it was the
    /// last of all.
    pub(crate) fn look_on(
        &self,
        behind: Option<&QueueName>,
        mut look: impl FnMut(&QueueName, &Declared),
    ) -> Option<QueueName> {
        let behind = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let mut looks = 0;
        for (name, declared) in self.0.range::<QueueName, _>((behind, Bound::Unbounded)) {
            look(name, declared);
            looks += 1 + declared.spec.bindings.len();
            if looks >= LOOKS {
                return Some(name.clone());
            }
        }
        None
    }

    /// Whether this queue is there, and bound to this key.
    pub(crate) fn reaches(&self, key: &RoutingKey, queue_ref: &QueueRef) -> bool {
        let declared = self.0.get(&queue_ref.terms().name);
        declared.is_some_and(|declared| queue_ref.is_of(&declared.queue) && declared.reaches(key))
    }
}

impl Declared {
    pub(crate) fn reaches(&self, key: &RoutingKey) -> bool {
        self.spec.bindings.iter().any(|pattern| pattern.matches(key))
    }
}
