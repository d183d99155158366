//! What a case has on the broker for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use polyqueue::QueueName;

use crate::history::{Call, Recorder};

/// The namespace of one case, and what was declared there.
#[derive(Clone)]
pub struct Namespace {
    name: String,
    recorder: Arc<Recorder>,
}

impl Namespace {
    pub(crate) fn new(name: String, recorder: Arc<Recorder>) -> Self {
        Self { name, recorder }
    }

    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// Its name: nothing else on the broker has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The queues that were declared here: for harnesses that look for leftovers by name.
    pub fn declared_queues(&self) -> Vec<QueueName> {
        let events = self.recorder.history().events;
        let names = events.into_iter().filter_map(|event| match event.call {
            Call::Declare { spec, .. } => Some(spec.name),
            _ => None,
        });
        names.collect::<BTreeSet<QueueName>>().into_iter().collect()
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Namespace").field(&self.name).finish()
    }
}

/// The namespaces of one case, each with a history of its own: that of the case, and those of child handles.
pub(crate) struct Namespaces {
    pub(crate) own: Namespace,
    others: Mutex<BTreeMap<String, Namespace>>,
}

impl Namespaces {
    pub(crate) fn new(own: Namespace) -> Self {
        Self { own, others: Mutex::default() }
    }

    /// The one of this name; begun when it is first asked for.
    pub(crate) fn of(&self, name: &str) -> Namespace {
        if name == self.own.name {
            return self.own.clone();
        }
        let begin = || Namespace::new(name.to_owned(), Arc::default());
        self.others.lock().entry(name.to_owned()).or_insert_with(begin).clone()
    }

    pub(crate) fn all(&self) -> Vec<Namespace> {
        std::iter::once(self.own.clone()).chain(self.others.lock().values().cloned()).collect()
    }
}

impl fmt::Debug for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}
