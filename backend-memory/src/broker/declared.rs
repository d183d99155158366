//! The queues of a namespace, and which of them a routing key reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use polyqueue::backend::TopicIndex;
use polyqueue::{Pattern, QueueName, QueueSpec, RoutingKey};

use crate::broker::locked_queue::LockedQueue;
use crate::broker::queue_ref::QueueRef;

/// So many queues and bindings are looked at under one hold of the lock.
const LOOKS: usize = 900;

/// The queues of a namespace.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    declared: BTreeMap<QueueName, Declared>,
    /// The same by what they are bound by.
    bound: TopicIndex<QueueName>,
}

/// A queue as it was declared and bound.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) spec: QueueSpec,
    pub(crate) queue: Arc<LockedQueue>,
}

impl Queues {
    pub(crate) fn get(&self, queue: &QueueName) -> Option<&Arc<LockedQueue>> {
        Some(&self.declared.get(queue)?.queue)
    }

    /// A queue as it was declared and bound.
    pub(crate) fn declared(&self, queue: &QueueName) -> Option<&Declared> {
        self.declared.get(queue)
    }

    pub(crate) fn insert(&mut self, declared: Declared) {
        let name = declared.spec.name.clone();
        declared.spec.bindings.iter().for_each(|pattern| self.bound.insert(pattern, name.clone()));
        self.declared.insert(name, declared);
    }

    /// Binds a queue that is there by more patterns.
    pub(crate) fn bind(&mut self, queue: &QueueName, patterns: &BTreeSet<Pattern>) {
        let Some(declared) = self.declared.get_mut(queue) else { return };
        patterns.iter().for_each(|pattern| self.bound.insert(pattern, queue.clone()));
        declared.spec.bindings.extend(patterns.iter().cloned());
    }

    pub(crate) fn unbind(&mut self, queue: &QueueName, pattern: &Pattern) {
        let Some(declared) = self.declared.get_mut(queue) else { return };
        declared.spec.bindings.remove(pattern);
        self.bound.remove(pattern, queue);
    }

    pub(crate) fn remove(&mut self, queue: &QueueName) -> Option<Declared> {
        let removed = self.declared.remove(queue)?;
        removed.spec.bindings.iter().for_each(|pattern| self.bound.remove(pattern, queue));
        Some(removed)
    }

    /// Takes all of them out.
    pub(crate) fn take(&mut self) -> BTreeMap<QueueName, Declared> {
        std::mem::take(self).declared
    }

    /// Those that are bound to this key, in the order of their names.
    pub(crate) fn reached(&self, key: &RoutingKey) -> impl Iterator<Item = (&QueueName, &Declared)> {
        let names = self.bound.matching(key).into_iter();
        names.filter_map(|name| Some((name, self.declared.get(name)?)))
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
        for (name, declared) in self.declared.range::<QueueName, _>((behind, Bound::Unbounded)) {
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
        let declared = self.declared.get(&queue_ref.terms().name);
        declared.is_some_and(|declared| queue_ref.is_of(&declared.queue) && declared.reaches(key))
    }
}

impl Declared {
    pub(crate) fn reaches(&self, key: &RoutingKey) -> bool {
        self.spec.bindings.iter().any(|pattern| pattern.matches(key))
    }
}
