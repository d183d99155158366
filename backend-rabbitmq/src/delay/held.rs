//! A message in hand that was taken from a slot: the broker has it until it is acked.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use lapin::{BasicProperties, Channel};

use crate::delay::slots::Slot;
use crate::wire::delay::Ticket;

/// One message.
pub(crate) struct Held {
    pub(crate) slot: Slot,
    pub(crate) ticket: Ticket,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
    channel: Channel,
    tag: u64,
}

impl Held {
    /// What came from a slot. `None` for a question whether the slot is there. What has no ticket is due, for nobody.
    pub(crate) fn of(slot: Slot, channel: &Channel, delivery: Delivery) -> Option<Self> {
        let ticket = Ticket::read(&delivery.properties);
        if ticket.is_none() && delivery.data.is_empty() && delivery.properties.expiration().is_some() {
            return None;
        }
        Some(Self {
            slot,
            ticket: ticket.unwrap_or_default(),
            properties: delivery.properties,
            body: delivery.data.into(),
            channel: channel.clone(),
            tag: delivery.delivery_tag,
        })
    }

    /// The channel that it came over.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Removes it from its slot. The frame is on its way when this returns; the rest is its writing.
    pub(crate) fn ack(self) -> BoxFuture<'static, lapin::Result<()>> {
        let Self { channel, tag, .. } = self;
        begun(async move { channel.basic_ack(tag, BasicAckOptions::default()).await }.boxed())
    }

    /// Gives it back, to its place.
    pub(crate) fn give_back(self) -> BoxFuture<'static, lapin::Result<()>> {
        let Self { channel, tag, .. } = self;
        let options = BasicNackOptions { requeue: true, ..Default::default() };
        begun(async move { channel.basic_nack(tag, options).await }.boxed())
    }
}

fn begun(mut call: BoxFuture<'static, lapin::Result<()>>) -> BoxFuture<'static, lapin::Result<()>> {
    match (&mut call).now_or_never() {
        Some(done) => std::future::ready(done).boxed(),
        None => call,
    }
}
