//! A handle: what one client of a broker has of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use polyqueue::backend::{Deadline, EventSender, Lifecycle, Meter};
use polyqueue::{ConnectOptions, Error, Limits, Message, QueueName, ReplyAddress, Result};

use crate::broker::budget::{Budget, Reservation};
use crate::broker::clock::{At, Clock, whole_millis};
use crate::broker::namespace::{Broker, Namespace};
use crate::broker::queue_ref::QueueRef;
use crate::broker::replies::Replies;
use crate::broker::state::consume;
use crate::broker::state::ids::{ConsumerId, WaiterId};
use crate::broker::state::pending::WaitOutcome;
use crate::connection::recent::RecentQueues;
use crate::mutants::{Bug, planted};

/// What one client of a broker has of its own.
#[derive(Debug)]
pub(crate) struct Handle {
    /// Keeps the broker alive; given up by a close.
    broker: Mutex<Option<Arc<Broker>>>,
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) limits: Limits,
    pub(crate) deadline: Duration,
    pub(crate) meter: Meter,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) events: EventSender,
    /// Consumers that a close must wake, always in the same order.
    pub(crate) consumers: Mutex<BTreeMap<ConsumerId, QueueRef>>,
    /// Publishes that wait for room, which a close must wake, always in the same order.
    pub(crate) publishes: Mutex<BTreeMap<WaiterId, Waker>>,
    /// Inboxes that a close must wake, always in the same order.
    pub(crate) inboxes: Mutex<BTreeMap<ReplyAddress, Arc<Replies>>>,
    pub(crate) clock: Clock,
    pub(crate) recent: RecentQueues,
    clock_offset: TimeDelta,
    /// Handles in other namespaces, which a close closes.
    children: Mutex<Vec<Weak<Handle>>>,
}

impl Handle {
    pub(crate) fn new(broker: Arc<Broker>, options: &ConnectOptions) -> Self {
        let namespace = broker.namespace(&options.namespace);
        Self::open(broker, namespace, options.deadline, options.clock_offset)
    }

    /// A handle in another namespace that ends with this one.
    ///
    /// # Errors
    /// `Closed` when this one was closed.
    pub(crate) fn child(&self, namespace: &str) -> Result<Arc<Self>> {
        let broker = self.broker.lock().clone().ok_or(Error::Closed)?;
        let namespace =
            if planted(Bug::ChildReadsParent) { self.namespace.clone() } else { broker.namespace(namespace) };
        let mut child = Self::open(broker, namespace, self.deadline, self.clock_offset);
        if planted(Bug::ChildClosesParent) {
            child.lifecycle = self.lifecycle.clone();
        }
        let child = Arc::new(child);
        let mut children = self.children.lock();
        self.lifecycle.check_open()?;
        children.retain(|other| other.strong_count() > 0);
        children.push(Arc::downgrade(&child));
        Ok(child)
    }

    fn open(
        broker: Arc<Broker>,
        namespace: Arc<Namespace>,
        deadline: Duration,
        clock_offset: TimeDelta,
    ) -> Self {
        Self {
            events: namespace.events.clone(),
            namespace,
            budget: broker.budget.clone(),
            clock: broker.clock.clone(),
            broker: Mutex::new(Some(broker)),
            limits: Limits::default(),
            deadline,
            meter: Meter::default(),
            lifecycle: Lifecycle::default(),
            consumers: Mutex::default(),
            publishes: Mutex::default(),
            inboxes: Mutex::default(),
            recent: RecentQueues::default(),
            clock_offset,
            children: Mutex::default(),
        }
    }

    /// The queue of this name, or `NotFound`.
    pub(crate) fn queue(&self, name: &QueueName) -> Result<QueueRef> {
        let found = self.namespace.queues.read().get(name).cloned();
        let queue = found.ok_or_else(|| Error::not_found(name))?;
        Ok(QueueRef::new(queue, self.meter.of(name)))
    }

    /// When a call of this name that begins now ends at the latest.
    pub(crate) fn deadline(&self, what: &'static str) -> Deadline {
        Deadline::new(what, self.deadline)
    }

    /// This client's wall clock, in whole milliseconds.
    pub(crate) fn wall(&self) -> DateTime<Utc> {
        self.wall_at(self.clock.now())
    }

    /// The same at this moment.
    pub(crate) fn wall_at(&self, at: At) -> DateTime<Utc> {
        let wall = self.clock.wall(at);
        wall.checked_add_signed(self.clock_offset).unwrap_or(wall)
    }

    /// What is kept of a message: it knows when it was published, and takes room.
    pub(crate) fn keep(&self, message: Message, now: DateTime<Utc>) -> Result<(Message, Reservation)> {
        let at = message.published_at().map_or(now, |at| whole_millis(at.timestamp_millis()));
        let message = message.with_published_at(at);
        let room = self.budget.reserve(&message)?;
        Ok((message, room))
    }

    /// Ends the handle, its children and all waits on them; whether it was open.
    pub(crate) fn close(&self) -> bool {
        if !self.lifecycle.close() {
            return false;
        }
        let consumers = std::mem::take(&mut *self.consumers.lock());
        for (id, queue_ref) in consumers {
            while !queue_ref.hold(|queue, _| consume::end_waits(queue, id, || WaitOutcome::Closed)) {}
        }
        let publishes = std::mem::take(&mut *self.publishes.lock());
        publishes.into_values().for_each(Waker::wake);
        for (address, replies) in std::mem::take(&mut *self.inboxes.lock()) {
            self.namespace.reply_buffers.close(&address);
            replies.close();
        }
        let children = std::mem::take(&mut *self.children.lock());
        for child in children.iter().filter_map(Weak::upgrade) {
            child.close();
        }
        *self.broker.lock() = None;
        true
    }
}
