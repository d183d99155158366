//! A broker: the namespaces of one name in this process, and how many bytes they may hold together.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::{Mutex, RwLock};
use polyqueue::{Error, Result};

use crate::address::Address;
use crate::broker::budget::Budget;
use crate::broker::clock::Clock;
use crate::broker::declared::Queues;
use crate::broker::replies::ReplyBuffers;

/// What one namespace holds.
#[derive(Debug, Default)]
pub(crate) struct Namespace {
    /// Read by whoever publishes to a topic until every copy is stored, so that no copy goes by a stale route.
    pub(crate) queues: RwLock<Queues>,
    pub(crate) reply_buffers: ReplyBuffers,
}

/// A broker; lives as long as a handle is open.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) clock: Clock,
    pub(crate) budget: Arc<Budget>,
    namespaces: Mutex<HashMap<String, Arc<Namespace>>>,
}

/// The brokers of this process that have a name.
static NAMED: LazyLock<Mutex<HashMap<String, Weak<Broker>>>> = LazyLock::new(Mutex::default);

impl Broker {
    /// A broker of its own.
    pub(crate) fn private(max_bytes: u64) -> Arc<Self> {
        let budget = Budget::new(max_bytes);
        Arc::new(Self { clock: Clock::start(), budget, namespaces: Mutex::default() })
    }

    /// The broker at this address: the one that is there, or a new one.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the one that is there has other options.
    pub(crate) fn at(address: &Address) -> Result<Arc<Self>> {
        let mut named = NAMED.lock();
        if let Some(broker) = named.get(&address.name).and_then(Weak::upgrade) {
            let max = broker.budget.max();
            if max == address.max_bytes {
                return Ok(broker);
            }
            let given = address.max_bytes;
            let allowed = format!("{given} given, but broker {:?} is open with {max}", address.name);
            return Err(Error::invalid("max_bytes", allowed));
        }
        named.retain(|_, broker| broker.strong_count() > 0);
        let broker = Self::private(address.max_bytes);
        named.insert(address.name.clone(), Arc::downgrade(&broker));
        Ok(broker)
    }

    /// The namespace of this name.
    pub(crate) fn namespace(&self, name: &str) -> Arc<Namespace> {
        self.namespaces.lock().entry(name.to_owned()).or_default().clone()
    }
}
