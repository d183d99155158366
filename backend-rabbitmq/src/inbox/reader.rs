//! Inboxes: an exclusive queue that goes with its reader, and replies that are kept nowhere else.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use polyqueue::backend::{ReplyBuffer, later, not_found_if_all};
use polyqueue::{Error, Inbox, Message, Published, ReplyAddress, Result, async_trait};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::connection::handle::Core;
use crate::connection::publisher::{Confirm, PublishRequest};
use crate::wire::decode::decode;
use crate::wire::properties::Raw;

/// How long to wait before an inbox that was lost is made again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long the orderly end may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// Kept in memory only: a reply is worth nothing after its reader.
const TRANSIENT: u8 = 1;

/// An inbox. Its task ends with it.
pub(crate) struct RabbitInbox {
    core: Arc<Core>,
    address: ReplyAddress,
    replies: Arc<ReplyBuffer<Message>>,
    _stop: oneshot::Sender<()>,
}

/// Takes in one reply. What cannot be read, and what is too much, is dropped.
fn take_in_one(buffer: &ReplyBuffer<Message>, delivery: Delivery) {
    let raw = Raw { properties: delivery.properties, body: delivery.data.into() };
    let reply = match decode(&raw) {
        Ok(decoded) => decoded.message,
        Err(why) => return tracing::warn!(name: "rabbitmq.undecodable_reply", %why),
    };
    let bytes = reply.payload().len();
    if let Err(reply) = buffer.push(reply, bytes) {
        tracing::warn!(name: "rabbitmq.inbox_full", id = %reply.id(), "dropped a reply: nobody reads this inbox");
    }
}

/// The broker's side of an inbox, while its connection lasts.
struct Attached {
    channel: Channel,
    consumer: Consumer,
}

impl RabbitInbox {
    pub(crate) async fn open(core: Arc<Core>) -> Result<Self> {
        let address = ReplyAddress::new(core.names.inbox())?;
        let alive = core.alive.lock().clone().ok_or(Error::Closed)?;
        let attached = attach(&core, &address).await?;
        let replies = Arc::<ReplyBuffer<Message>>::default();
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(keep(core.clone(), address.clone(), replies.clone(), attached, stopped, alive));
        Ok(Self { core, address, replies, _stop: stop })
    }
}

async fn attach(core: &Core, address: &ReplyAddress) -> Result<Attached> {
    let session = core.control().await?;
    let channel = session.channel().await?;
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let made = channel.queue_declare(address.as_str().into(), options, FieldTable::default()).await;
    made.map_err(|e| session.fault(&e))?;
    let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..Default::default() };
    let begun = channel.basic_consume(address.as_str().into(), "".into(), options, FieldTable::default());
    let consumer = begun.await.map_err(|e| session.fault(&e))?;
    Ok(Attached { channel, consumer })
}

/// Takes in replies until the inbox or its handle is gone, over one connection after the other.
async fn keep(
    core: Arc<Core>,
    address: ReplyAddress,
    replies: Arc<ReplyBuffer<Message>>,
    first: Attached,
    mut stopped: oneshot::Receiver<()>,
    _alive: mpsc::Sender<()>,
) {
    let mut attached = Some(first);
    loop {
        let work = async {
            match &mut attached {
                Some(Attached { consumer, .. }) => take_in(consumer, &replies).await,
                None => {
                    tokio::time::sleep(AGAIN).await;
                    return attach(&core, &address).await.ok();
                }
            }
            None
        };
        attached = tokio::select! {
            biased;
            _ = &mut stopped => break,
            () = core.closed() => break,
            next = work => next,
        };
        if attached.is_none() {
            tracing::debug!(name: "rabbitmq.inbox_lost", %address);
        }
    }
    if let Some(Attached { channel, .. }) = attached {
        let options = QueueDeleteOptions::default();
        let end = async {
            let _ = channel.queue_delete(address.as_str().into(), options).await;
            channel.close(200, "done".into()).await
        };
        let _ = timeout(FAREWELL, end).await;
    }
}

async fn take_in(consumer: &mut Consumer, replies: &ReplyBuffer<Message>) {
    while let Some(Ok(delivery)) = consumer.next().await {
        take_in_one(replies, delivery);
    }
}

#[async_trait]
impl Inbox for RabbitInbox {
    fn address(&self) -> &ReplyAddress {
        &self.address
    }

    async fn receive(&self, wait: Duration) -> Result<Vec<Message>> {
        self.core.check_open()?;
        self.core.limits.check_wait(wait)?;
        tokio::select! {
            biased;
            () = self.core.closed() => Err(Error::Closed),
            came = self.replies.take(later(Instant::now(), wait)) => came,
        }
    }
}

impl fmt::Debug for RabbitInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitInbox").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Whether the broker hands a reply over without a queue. It does so and returns it all the same: nobody can tell whether the
/// requester is still there.
fn is_direct(to: &ReplyAddress) -> bool {
    to.as_str().starts_with("amq.rabbitmq.reply-to.")
}

impl Core {
    /// Publishes replies to an inbox, anybody's.
    ///
    /// # Errors
    /// `NotFound` when it is gone.
    pub(crate) async fn publish_replies(
        &self,
        to: &ReplyAddress,
        batch: &[Message],
        by: Instant,
    ) -> Result<Vec<Result<Published>>> {
        let now = self.now();
        let request = |message: &Message| PublishRequest {
            exchange: String::new(),
            key: to.as_str().to_owned(),
            properties: self.properties(message, now).with_delivery_mode(TRANSIENT),
            body: message.payload().clone(),
        };
        let answers = self.send(batch.iter().map(request).collect(), by).await?;
        let result = |(answer, message): (Result<Confirm>, &Message)| match answer? {
            Confirm::Unroutable if !is_direct(to) => Err(Error::not_found(to)),
            Confirm::Stored | Confirm::Unroutable => Ok(Published::stored(message.id().clone())),
        };
        not_found_if_all(answers.into_iter().zip(batch).map(result).collect())
    }
}
