//! A handle: what one client of a broker has of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use polyqueue::{Error, Limits, Meter, QueueName, Result};

use crate::broker::{Broker, Catalogue};
use crate::budget::Budget;
use crate::cell::Cell;
use crate::clock::Clock;
use crate::line::Answer;
use crate::receipt::ReaderId;

/// What one client of a broker has of its own.
#[derive(Debug)]
pub(crate) struct Handle {
    /// Keeps the broker alive; given up by a close.
    broker: Mutex<Option<Arc<Broker>>>,
    pub(crate) queues: Arc<Catalogue>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) limits: Limits,
    pub(crate) meter: Meter,
    /// Consumers that a close must wake, always in the same order.
    pub(crate) consumers: Mutex<BTreeMap<ReaderId, Arc<Cell>>>,
    pub(crate) clock: Clock,
    clock_offset: TimeDelta,
    closed: AtomicBool,
}

impl Handle {
    pub(crate) fn new(broker: Arc<Broker>, namespace: &str, clock_offset: TimeDelta) -> Self {
        Self {
            queues: broker.namespace(namespace),
            budget: broker.budget.clone(),
            clock: broker.clock,
            broker: Mutex::new(Some(broker)),
            limits: Limits::default(),
            meter: Meter::default(),
            consumers: Mutex::default(),
            clock_offset,
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// The queue of this name, or `NotFound`.
    pub(crate) fn queue(&self, name: &QueueName) -> Result<Arc<Cell>> {
        let found = self.queues.read().get(name).cloned();
        found.ok_or_else(|| Error::not_found(name.clone()))
    }

    /// This client's wall clock, in whole milliseconds.
    pub(crate) fn wall(&self) -> DateTime<Utc> {
        let wall = self.clock.wall(self.clock.now());
        wall.checked_add_signed(self.clock_offset).unwrap_or(wall)
    }

    /// Ends the handle and all waits of its consumers; whether it was open.
    pub(crate) fn close(&self) -> bool {
        if self.closed.swap(true, Ordering::AcqRel) {
            return false;
        }
        let consumers: Vec<_> = self.consumers.lock().iter().map(|(id, cell)| (*id, cell.clone())).collect();
        for (id, cell) in consumers {
            cell.call(|line| line.end_waits(id, || Answer::Closed));
        }
        *self.broker.lock() = None;
        true
    }
}
