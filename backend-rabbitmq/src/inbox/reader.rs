//! Inboxes: an exclusive queue that goes with its reader, and replies that are kept nowhere else.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lapin::message::Delivery;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use polyqueue::backend::{Entered, ReplyBuffer, background, later};
use polyqueue::{Error, Inbox, Message, ReplyAddress, Result, async_trait};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::connection::change::Change;
use crate::connection::control_channel::Deliveries;
use crate::topology::state::Topology;
use crate::wire::decode::decode;
use crate::wire::properties::Raw;

/// How long to wait before an inbox that was lost is made again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long the orderly end may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// An inbox. Its task ends with it.
pub(crate) struct RabbitInbox {
    topology: Arc<Topology>,
    address: ReplyAddress,
    replies: Arc<ReplyBuffer<Message>>,
    _stop: oneshot::Sender<()>,
}

/// Takes in one reply. What cannot be read, and what is too much, is dropped.
fn take_in_one(buffer: &ReplyBuffer<Message>, delivery: Delivery) {
    let raw = Raw { properties: delivery.properties, body: delivery.data.into() };
    let reply = match decode(&raw) {
        Ok(decoded) => decoded.message,
        Err(why) => {
            return tracing::warn!(name: "rabbitmq.undecodable_reply", %why, "dropped a reply that cannot be read");
        }
    };
    let bytes = reply.payload().len();
    if let Err(reply) = buffer.push(reply, bytes) {
        tracing::warn!(name: "rabbitmq.inbox_full", id = %reply.id(), "dropped a reply: nobody reads this inbox");
    }
}

impl RabbitInbox {
    pub(crate) async fn open(topology: Arc<Topology>) -> Result<Self> {
        let address = ReplyAddress::new(topology.names.inbox())?;
        let alive = topology.handle.lifecycle.enter_open()?;
        let attached = attach(&topology, &address).await?;
        let replies = Arc::<ReplyBuffer<Message>>::default();
        let (stop, stopped) = oneshot::channel();
        background().spawn(keep(
            topology.clone(),
            address.clone(),
            replies.clone(),
            attached,
            stopped,
            alive,
        ));
        Ok(Self { topology, address, replies, _stop: stop })
    }
}

async fn attach(topology: &Topology, address: &ReplyAddress) -> Result<Deliveries> {
    let channel = topology.handle.control().dedicated().await?;
    channel.change(vec![Change::OwnQueue { name: address.to_string() }]).await?;
    let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..Default::default() };
    Ok(channel.consume(address.as_str(), options, FieldTable::default()).await?)
}

/// Takes in replies until the inbox or its handle is gone, over one connection after the other.
async fn keep(
    topology: Arc<Topology>,
    address: ReplyAddress,
    replies: Arc<ReplyBuffer<Message>>,
    first: Deliveries,
    mut stopped: oneshot::Receiver<()>,
    _alive: Entered,
) {
    let mut attached = Some(first);
    loop {
        let work = async {
            match &mut attached {
                Some(deliveries) => take_in(deliveries, &address, &replies).await,
                None => {
                    tokio::time::sleep(AGAIN).await;
                    return attach(&topology, &address).await.ok();
                }
            }
            None
        };
        attached = tokio::select! {
            biased;
            _ = &mut stopped => break,
            () = topology.handle.closed() => break,
            next = work => next,
        };
        if attached.is_none() {
            tracing::debug!(name: "rabbitmq.inbox_lost", %address, "an inbox was lost with its connection");
        }
    }
    if let Some(Deliveries { channel, .. }) = attached {
        let end = async {
            let _ = channel.change(vec![Change::NoQueue { name: address.to_string() }]).await;
            channel.end().await;
        };
        let _ = timeout(CLOSE_TIMEOUT, end).await;
    }
}

async fn take_in(deliveries: &mut Deliveries, address: &ReplyAddress, replies: &ReplyBuffer<Message>) {
    while let Ok(Some(delivery)) = deliveries.next_while_alive(address.as_str(), |_| true).await {
        take_in_one(replies, delivery);
    }
}

#[async_trait]
impl Inbox for RabbitInbox {
    fn address(&self) -> &ReplyAddress {
        &self.address
    }

    async fn receive(&self, wait: Duration) -> Result<Vec<Message>> {
        self.topology.handle.begin().await?;
        self.topology.handle.limits.check_wait(wait)?;
        tokio::select! {
            biased;
            () = self.topology.handle.closed() => Err(Error::Closed),
            came = self.replies.take(later(Instant::now(), wait)) => came,
        }
    }
}

impl fmt::Debug for RabbitInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitInbox").field("address", &self.address).finish_non_exhaustive()
    }
}
