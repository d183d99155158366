//! What a consumer and its task share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use lapin::message::Delivery;
use polyqueue::backend::{QueueMeter, Receiving};
use polyqueue::{Event, QueueName, Subscription};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::connection::handle::Handle;
use crate::connection::link::Link;
use crate::consume::buffer::HandOut;
use crate::settle::fetched::Life;
use crate::settle::job::SettleJob;
use crate::settle::republish::Republisher;
use crate::topology::state::Topology;
use crate::wire::names::address_in;

/// What a consumer and its task share.
pub(crate) struct ConsumerState {
    pub(crate) republisher: Arc<Republisher>,
    pub(crate) hand_out: HandOut,
    pub(crate) link: Arc<Link>,
    pub(crate) subscription: Subscription,
    pub(crate) meter: Arc<QueueMeter>,
    /// It was told that its lease is longer than the broker allows.
    pub(crate) is_told: AtomicBool,
}

/// What a consumer asks of its task.
pub(crate) enum Job {
    /// Carry out a verdict.
    Settle(SettleJob),
    /// Give back what was not handed out.
    Close(oneshot::Sender<()>),
}

impl ConsumerState {
    pub(crate) fn topology(&self) -> &Arc<Topology> {
        self.republisher.topology()
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.topology().handle
    }

    /// Tells, once, that the broker lets nobody hold a message for as long as this lease lasts, as soon as that is known.
    pub(crate) fn heed_hold_limit(&self) {
        let Some(limit) = self.handle().hold_limit().known() else { return };
        let Subscription { queue, lease, .. } = &self.subscription;
        if *lease >= limit && !self.is_told.swap(true, Relaxed) {
            let lease = Duration::from_millis(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
            self.handle().events.send(Event::LeaseLimited { queue: queue.clone(), lease, limit });
        }
    }

    pub(crate) fn queue(&self) -> &QueueName {
        &self.subscription.queue
    }

    /// The life that a delivery says it is of.
    pub(crate) fn life(&self, delivery: &Delivery) -> Option<Life> {
        let said = address_in(delivery.exchange.as_str(), delivery.routing_key.as_str());
        said.map(|address| self.life_at(Some(address.into())))
    }

    /// The life of whatever came by name.
    pub(crate) fn life_by_name(&self) -> Life {
        self.life_at(self.topology().address(self.queue()))
    }

    fn life_at(&self, address: Option<Arc<str>>) -> Life {
        let is_dead_end = address.as_ref().is_some_and(|address| self.topology().is_dead_end(address));
        Life { address, is_dead_end }
    }

    pub(crate) fn object(&self) -> String {
        self.topology().names.ready(self.queue())
    }
}

impl Receiving for ConsumerState {
    fn queue(&self) -> &QueueName {
        &self.subscription.queue
    }

    fn unfed_since(&self) -> Option<Instant> {
        self.hand_out.pending.unfed_since()
    }
}
