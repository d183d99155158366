//! Everything that is published goes through one confirming channel, pipelined, in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use parking_lot::Mutex;
use polyqueue::{Certainty, Error, Result};
use tokio::sync::{mpsc, oneshot};

use crate::PROVIDER_NAME;
use crate::address::Address;
use crate::fault::fault;
use crate::link::Session;

const ORDERS_AT_ONCE: usize = 256;

/// What is to be published, and where.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) exchange: String,
    pub(crate) key: String,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

/// What the broker answered.
#[derive(Debug)]
pub(crate) enum Stored {
    /// It has the message.
    Yes,
    /// No queue wanted it; nothing was stored.
    Unroutable,
}

type Answer = oneshot::Sender<Result<Stored>>;

enum Request {
    Publish(Box<Order>, Answer),
    Drain(oneshot::Sender<()>),
}

/// A handle to the task that owns the channel. The task ends with its last handle.
#[derive(Clone)]
pub(crate) struct Publisher {
    requests: mpsc::UnboundedSender<Request>,
    channel: Channel,
    /// The connection's generation.
    pub(crate) generation: u64,
    known: Arc<Mutex<std::collections::HashSet<String>>>,
}

impl Publisher {
    /// Opens the channel on this connection.
    pub(crate) async fn open(session: &Session, address: &Address) -> Result<Self> {
        let channel = session.channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(|e| session.fault(&e))?;
        let (requests, inbox) = mpsc::unbounded_channel();
        let line = Line { channel: channel.clone(), address: address.clone(), pending: BTreeMap::new() };
        tokio::spawn(line.run(inbox));
        Ok(Self { requests, channel, generation: session.generation, known: Arc::default() })
    }

    /// Whether orders can still be given.
    pub(crate) fn is_alive(&self) -> bool {
        !self.requests.is_closed() && self.channel.status().connected()
    }

    /// Publishes; orders keep their order. Dropping the answer changes nothing.
    pub(crate) fn publish(&self, order: Order) -> oneshot::Receiver<Result<Stored>> {
        let (answer, answered) = oneshot::channel();
        if let Err(refused) = self.requests.send(Request::Publish(Box::new(order), answer))
            && let Request::Publish(_, answer) = refused.0
        {
            let error = Error::unavailable(PROVIDER_NAME, Certainty::Definite, "the connection was lost");
            let _ = answer.send(Err(error));
        }
        answered
    }

    /// Waits until all that was ordered before is answered.
    pub(crate) async fn drain(&self) {
        let (done, drained) = oneshot::channel();
        if self.requests.send(Request::Drain(done)).is_ok() {
            let _ = drained.await;
        }
    }

    /// Remembers for this connection that an object exists.
    pub(crate) fn remember(&self, object: String) {
        self.known.lock().insert(object);
    }

    /// Forgets that it exists.
    pub(crate) fn forget(&self, object: &str) {
        self.known.lock().remove(object);
    }

    /// Whether it was seen on this connection.
    pub(crate) fn knows(&self, object: &str) -> bool {
        self.known.lock().contains(object)
    }
}

/// The error of an order whose answer will never come.
pub(crate) fn lost() -> Error {
    Error::unavailable(
        PROVIDER_NAME,
        Certainty::Unknown,
        "the connection was lost before the broker confirmed",
    )
}

struct Line {
    channel: Channel,
    address: Address,
    pending: BTreeMap<u64, Pending>,
}

struct Pending {
    key: String,
    id: Option<String>,
    returned: bool,
    answer: Answer,
}

type Flying = FuturesUnordered<BoxFuture<'static, (u64, Result<Confirmation, Error>)>>;

impl Line {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Request>) {
        let mut flying = Flying::new();
        let mut drains: Vec<oneshot::Sender<()>> = Vec::new();
        let mut requests = Vec::new();
        let mut next = 0_u64;
        let mut open = true;
        while open || !flying.is_empty() {
            tokio::select! {
                biased;
                Some(first) = flying.next(), if !flying.is_empty() => self.confirmed(first, &mut flying),
                taken = inbox.recv_many(&mut requests, ORDERS_AT_ONCE), if open => {
                    open = taken > 0;
                    for request in requests.drain(..) {
                        match request {
                            Request::Publish(order, answer) => {
                                flying.push(self.take(next, *order, answer));
                                next += 1;
                            }
                            Request::Drain(done) => drains.push(done),
                        }
                    }
                }
            }
            if flying.is_empty() {
                drains.clear();
                if !self.channel.status().connected() {
                    break;
                }
            }
        }
    }

    /// One order, from its frames to its confirm. The frames are written at the first poll: orders are polled first in the
    /// order in which they came, by one task, so that the client's numbering is the broker's.
    fn take(
        &mut self,
        number: u64,
        order: Order,
        answer: Answer,
    ) -> BoxFuture<'static, (u64, Result<Confirmation, Error>)> {
        let id = order.properties.message_id().as_ref().map(ToString::to_string);
        self.pending.insert(number, Pending { key: order.key.clone(), id, returned: false, answer });
        let (channel, address) = (self.channel.clone(), self.address.clone());
        async move { (number, send(&channel, &address, order).await) }.boxed()
    }

    /// Answers all that is confirmed by now.
    ///
    /// The client hands a returned message over with whatever confirm it meets next, which under a confirm of several
    /// messages need not be its own. A return always comes before the confirm of its own publish, so: take every confirm
    /// that has come, find the returned messages' owners, and only then answer. Touching the client's table of confirms
    /// makes sure that it has finished with the frame that it is reading.
    fn confirmed(&mut self, first: (u64, Result<Confirmation, Error>), flying: &mut Flying) {
        let _ = self.channel.wait_for_confirms().now_or_never();
        let mut done = vec![first];
        while let Some(Some(next)) = flying.next().now_or_never() {
            done.push(next);
        }
        let mut answers = Vec::with_capacity(done.len());
        for (number, result) in done {
            answers.push((number, result.map(|confirmation| self.note_return(confirmation))));
        }
        for (number, result) in answers {
            let Some(pending) = self.pending.remove(&number) else { continue };
            let answer = result.and_then(|accepted| match (pending.returned, accepted) {
                (true, _) => Ok(Stored::Unroutable),
                (false, true) => Ok(Stored::Yes),
                (false, false) => {
                    let said = format!("{}: the broker refused the message", self.address);
                    Err(Error::unavailable(PROVIDER_NAME, Certainty::Definite, said))
                }
            });
            let _ = pending.answer.send(answer);
        }
    }

    /// Whether the broker accepted; a returned message that came along is marked as such.
    fn note_return(&mut self, confirmation: Confirmation) -> bool {
        let accepted = confirmation.is_ack();
        if let Some(message) = confirmation.take_message() {
            let id = message.properties.message_id().as_ref().map(ToString::to_string);
            let key = message.routing_key.as_str();
            let owner = self.pending.values_mut().find(|p| !p.returned && p.key == key && p.id == id);
            if let Some(owner) = owner {
                owner.returned = true;
            }
        }
        accepted
    }
}

async fn send(channel: &Channel, address: &Address, order: Order) -> Result<Confirmation> {
    if !channel.status().connected() {
        let said = format!("{address}: the connection was lost");
        return Err(Error::unavailable(PROVIDER_NAME, Certainty::Definite, said));
    }
    let Order { exchange, key, properties, body } = order;
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let unknown = |error: lapin::Error| match fault(address, Certainty::Unknown, &error) {
        // The channel's end is one publisher's fault and everybody's loss.
        Error::Backend { source, .. } => {
            Error::unavailable(PROVIDER_NAME, Certainty::Unknown, source.to_string())
        }
        other => other,
    };
    let confirm = channel
        .basic_publish(exchange.into(), key.into(), options, &body, properties)
        .await
        .map_err(unknown)?;
    confirm.await.map_err(unknown)
}
