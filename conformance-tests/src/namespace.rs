//! What a case has on the broker for itself.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

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
