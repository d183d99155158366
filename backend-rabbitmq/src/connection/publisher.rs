//! Everything that is published goes through one confirming channel, pipelined, in order.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::FutureExt;
use lapin::Channel;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use parking_lot::Mutex;
use polyqueue::backend::background;
use polyqueue::{Certainty, Error, Result};
use tokio::sync::{mpsc, oneshot};

use crate::address::Address;
use crate::address::NAME;
use crate::connection::answered::Answers;
use crate::connection::confirms::{Command, ConfirmTracker, Pending};
use crate::connection::fault::of_a_closed_channel;
use crate::connection::link::Session;
use crate::connection::request::{Confirm, PublishRequest};

/// A handle to the channel and to the task that waits for its confirms. The task ends with the last handle.
#[derive(Clone)]
pub(crate) struct Publisher(Arc<Shared>);

struct Shared {
    requests: mpsc::UnboundedSender<Command>,
    /// Held from when a request's frames are given to the client until the task can find it.
    gate: Arc<Mutex<()>>,
    channel: Arc<Channel>,
    answers: Answers,
    address: Address,
    generation: u64,
    known: Mutex<HashSet<String>>,
}

impl Publisher {
    /// Opens the channel on this connection.
    pub(crate) async fn open(session: &Session, address: &Address) -> Result<Self> {
        let channel = session.channel().await?;
        let confirming = channel.confirm_select(ConfirmSelectOptions::default());
        session.answers.answered("opening a publisher", confirming).await.map_err(|error| {
            session.note(&error);
            of_a_closed_channel(session.fault(&error))
        })?;
        let channel = Arc::new(channel);
        let (requests, inbox) = mpsc::unbounded_channel();
        let gate = Arc::<Mutex<()>>::default();
        let tracker = ConfirmTracker::new(channel.clone(), address.clone(), inbox, gate.clone());
        #[cfg(test)]
        let tracker = tracker.starved_by(session.answers.starved.clone());
        background().spawn(tracker.run());
        let handle = Shared {
            requests,
            gate,
            answers: session.answers.clone(),
            channel,
            address: address.clone(),
            generation: session.generation,
            known: Mutex::default(),
        };
        Ok(Self(Arc::new(handle)))
    }

    /// Whether requests can still be given, on this connection.
    pub(crate) fn is_alive(&self, session: &Session) -> bool {
        self.0.generation == session.generation
            && !self.0.requests.is_closed()
            && self.0.channel.status().connected()
    }

    /// The number of its connection.
    pub(crate) fn generation(&self) -> u64 {
        self.0.generation
    }

    /// Publishes; requests keep their order. Dropping the answer changes nothing.
    pub(crate) fn publish(&self, request: PublishRequest) -> oneshot::Receiver<Result<Confirm>> {
        let (answer, answered) = oneshot::channel();
        let PublishRequest { exchange, key, properties, body } = request;
        let key = ShortString::from(key);
        let open = self.0.answers.begin("publish");
        let pending = Pending { key: key.clone(), id: properties.message_id().clone(), answer, open };
        let channel = self.0.channel.clone();
        let mut frames = async move {
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            channel.basic_publish(exchange.into(), key, options, &body, properties).await
        }
        .boxed();
        // The client takes the frames at the first poll: here, so that they are on their way at once, and one request at a
        // time, so that the client's numbering is the broker's.
        let _one_at_a_time = self.0.gate.lock();
        if self.0.requests.is_closed() || !self.0.channel.status().connected() {
            let said = format!("{}: the connection was lost", self.0.address);
            let _ = pending.answer.send(Err(Error::unavailable(NAME, Certainty::Definite, said)));
            return answered;
        }
        if let Some(written) = (&mut frames).now_or_never() {
            frames = std::future::ready(written).boxed();
        }
        // When nobody is there any more to see the confirm, the answer is dropped: nobody knows.
        let _ = self.0.requests.send(Command::Publish(pending, frames));
        answered
    }

    /// Waits until all that was requested before is answered.
    pub(crate) async fn drain(&self) {
        let (done, drained) = oneshot::channel();
        if self.0.requests.send(Command::Drain(done)).is_ok() {
            let _ = drained.await;
        }
    }

    /// Remembers for this connection that an object exists.
    pub(crate) fn remember(&self, object: String) {
        self.0.known.lock().insert(object);
    }

    /// Forgets that it exists.
    pub(crate) fn forget(&self, object: &str) {
        self.0.known.lock().remove(object);
    }

    /// Forgets whatever was seen.
    pub(crate) fn forget_all(&self) {
        self.0.known.lock().clear();
    }

    /// Whether it was seen on this connection.
    pub(crate) fn knows(&self, object: &str) -> bool {
        self.0.known.lock().contains(object)
    }
}

/// The error of a request whose answer will never come.
pub(crate) fn lost() -> Error {
    Error::unavailable(NAME, Certainty::Unknown, "the connection was lost before the broker confirmed")
}
