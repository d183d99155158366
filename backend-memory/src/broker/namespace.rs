//! A broker: the namespaces of one name in this process, and how many bytes they may hold together.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::{Mutex, RwLock};
use polyqueue::backend::{EventSender, Meter};
use polyqueue::{Error, QueueName, QueueSpec, Result, RoutingKey};

use crate::address::Address;
use crate::broker::budget::Budget;
use crate::broker::clock::Clock;
use crate::broker::declared::{Declared, Queues};
use crate::broker::queue_ref::QueueRef;
use crate::broker::replies::ReplyBuffers;
use crate::broker::state::admin;
use crate::mutants::{Bug, planted};

/// What one namespace holds.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// Whoever stores a copy of a message to a topic asks under the queue's lock whether it is bound still, and who unbinds
    /// takes that lock afterwards: so no copy goes by a stale route.
    pub(crate) queues: RwLock<Queues>,
    pub(crate) reply_buffers: ReplyBuffers,
    pub(crate) events: EventSender,
}

impl Namespace {
    fn new(events: EventSender) -> Arc<Self> {
        Arc::new(Self { queues: RwLock::default(), reply_buffers: ReplyBuffers::default(), events })
    }

    /// The queues that are bound to this key, once each, in the order of their names.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub(crate) fn reached(&self, key: &RoutingKey, meter: &Meter) -> Result<Vec<QueueRef>> {
        let queue_ref =
            |(name, declared): (_, &Declared)| QueueRef::new(declared.queue.clone(), meter.of(name));
        let mut reached: Vec<QueueRef> = self.queues.read().reached(key).map(queue_ref).collect();
        if planted(Bug::FanOutStops) {
            reached.truncate(1);
        }
        if reached.is_empty() { Err(Error::not_found(key)) } else { Ok(reached) }
    }

    /// Every queue, as it was declared and bound.
    pub(crate) fn specs(&self) -> Vec<QueueSpec> {
        let mut specs = Vec::new();
        self.look_at_all(|_, declared| specs.push(declared.spec.clone()));
        specs
    }

    /// A few under each hold of the lock.
    fn look_at_all(&self, mut look: impl FnMut(&QueueName, &Declared)) {
        let mut last = self.queues.read().look_on(None, &mut look);
        while let Some(behind) = last {
            last = self.queues.read().look_on(Some(&behind), &mut look);
        }
    }
}

/// A broker; lives as long as a handle is open.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) clock: Clock,
    pub(crate) budget: Arc<Budget>,
    events: EventSender,
    namespaces: Mutex<HashMap<String, Arc<Namespace>>>,
}

/// The brokers of this process that have a name.
static NAMED: LazyLock<Mutex<HashMap<String, Weak<Broker>>>> = LazyLock::new(Mutex::default);

impl Broker {
    /// A broker of its own.
    pub(crate) fn private(max_bytes: u64) -> Arc<Self> {
        let events = EventSender::new("");
        let budget = Budget::new(max_bytes, events.clone());
        Arc::new(Self { clock: Clock::start(), budget, events, namespaces: Mutex::default() })
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

    /// Loses every queue.
    pub(crate) fn wipe(&self) {
        let mut namespaces: Vec<_> =
            self.namespaces.lock().iter().map(|(name, it)| (name.clone(), it.clone())).collect();
        namespaces.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (_, namespace) in namespaces {
            let queues = namespace.queues.write().take();
            for (name, declared) in queues {
                QueueRef::new(declared.queue, Meter::default().of(&name))
                    .hold(|queue, _| admin::delete(queue));
            }
        }
    }

    /// The namespace of this name.
    pub(crate) fn namespace(&self, name: &str) -> Arc<Namespace> {
        let make = || Namespace::new(self.events.child(name));
        self.namespaces.lock().entry(name.to_owned()).or_insert_with(make).clone()
    }
}
