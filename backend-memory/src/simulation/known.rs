//! The queues that a client knows: what it declares again where the broker has lost everything.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use polyqueue::{Pattern, QueueName, QueueSpec};

/// The queues that a client knows, in one namespace.
#[derive(Debug, Default)]
pub(crate) struct Known {
    specs: Mutex<BTreeMap<QueueName, QueueSpec>>,
    /// The wipes that were made good.
    wipes: Mutex<u64>,
    /// The wipes that were told.
    told: Mutex<u64>,
}

impl Known {
    pub(crate) fn since(wipes: u64) -> Self {
        Self { specs: Mutex::default(), wipes: Mutex::new(wipes), told: Mutex::new(wipes) }
    }

    pub(crate) fn learn(&self, spec: &QueueSpec) {
        let mut specs = self.specs.lock();
        match specs.get_mut(&spec.name) {
            Some(known) => known.bindings.extend(spec.bindings.iter().cloned()),
            None => drop(specs.insert(spec.name.clone(), spec.clone())),
        }
    }

    pub(crate) fn knows(&self, queue: &QueueName) -> bool {
        self.specs.lock().contains_key(queue)
    }

    pub(crate) fn forget(&self, queue: &QueueName) {
        self.specs.lock().remove(queue);
    }

    pub(crate) fn forget_binding(&self, queue: &QueueName, pattern: &Pattern) {
        if let Some(spec) = self.specs.lock().get_mut(queue) {
            spec.bindings.remove(pattern);
        }
    }

    /// What is to be declared again; `None` where nothing was lost since the last time.
    pub(crate) fn lost(&self, wipes: u64) -> Option<Vec<QueueSpec>> {
        (*self.wipes.lock() < wipes).then(|| self.specs.lock().values().cloned().collect())
    }

    /// All is declared again that was lost until then. Answers whether it was not before.
    pub(crate) fn restored(&self, wipes: u64) -> bool {
        std::mem::replace(&mut *self.wipes.lock(), wipes) < wipes
    }

    /// Whether it is told for the first time.
    pub(crate) fn is_news(&self, wipes: u64) -> bool {
        std::mem::replace(&mut *self.told.lock(), wipes) < wipes
    }
}
