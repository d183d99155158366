//! Everything that is published goes through one confirming channel, pipelined, in order.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures_util::FutureExt;
use lapin::Channel;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use parking_lot::Mutex;
use polyqueue::backend::background;
use polyqueue::{Certainty, Error, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::address::Address;
use crate::address::NAME;
use crate::connection::boot;
use crate::connection::confirms::{Command, ConfirmTracker, Pending, refused, unknown};
use crate::connection::fault::of_a_closed_channel;
use crate::connection::heard::Heard;
use crate::connection::request::{Confirm, PublishRequest};
use crate::connection::session::Session;
use crate::connection::sizes::{Known, Sizes};
use crate::connection::trial::Trial;
use crate::connection::window::{Permit, Window};
use crate::wire::boot::stamped;

/// After so long without an answer of the broker it is asked first whether it takes publishes: it says so to no one unasked.
const IDLE: Duration = Duration::from_secs(1);

/// A handle to the channel and to the task that waits for its confirms. The task ends with the last handle.
#[derive(Clone)]
pub(crate) struct Publisher(Arc<Shared>);

struct Shared {
    requests: mpsc::UnboundedSender<Command>,
    /// Held from when a request's frames are given to the client until the task can find it.
    gate: Arc<Mutex<()>>,
    channel: Arc<Channel>,
    session: Arc<Session>,
    /// Which boot of the broker it is, where that may be known.
    boot: Option<String>,
    address: Address,
    known: Mutex<HashSet<String>>,
    window: Window,
    trial: Trial,
    /// One call at a time asks.
    asking: tokio::sync::Mutex<()>,
    heard: Heard,
    may_write: AtomicBool,
    sizes: Mutex<Sizes>,
}

/// What lets a request in.
enum Entry {
    /// It goes with the others.
    With(Permit),
    /// It is larger than what the broker was ever seen to take: it is tried where it harms nobody.
    Alone(Permit),
}

impl Publisher {
    /// Opens the channel on this connection.
    pub(crate) async fn open(session: &Arc<Session>, address: &Address) -> Result<Self> {
        let channel = session.channel().await?;
        let confirming = channel.confirm_select(ConfirmSelectOptions::default());
        session.answers.answered("opening a publisher", confirming).await.map_err(|error| {
            session.note(&error);
            of_a_closed_channel(session.fault(&error))
        })?;
        let boot = boot::own(session).await.map_err(|error| {
            session.note(&error);
            of_a_closed_channel(session.fault(&error))
        })?;
        let channel = Arc::new(channel);
        let (requests, inbox) = mpsc::unbounded_channel();
        let (gate, heard) = (Arc::<Mutex<()>>::default(), Heard::default());
        let tracker =
            ConfirmTracker::new(channel.clone(), address.clone(), inbox, gate.clone(), heard.clone());
        #[cfg(test)]
        let tracker = tracker.starved_by(session.answers.starved.clone());
        background().spawn(tracker.run());
        let handle = Shared {
            requests,
            gate,
            channel,
            session: session.clone(),
            boot,
            address: address.clone(),
            known: Mutex::default(),
            window: Window::default(),
            trial: Trial::new(session.clone()),
            asking: tokio::sync::Mutex::default(),
            heard,
            may_write: AtomicBool::new(true),
            sizes: Mutex::default(),
        };
        Ok(Self(Arc::new(handle)))
    }

    /// Whether requests can still be given, on this connection.
    pub(crate) fn is_alive(&self, session: &Session) -> bool {
        self.0.session.generation == session.generation
            && !self.0.requests.is_closed()
            && self.0.channel.status().connected()
    }

    /// Publishes once there is room, and the broker takes publishes: by then, or never. Requests of one caller keep their order.
    /// Dropping the answer changes nothing.
    pub(crate) async fn publish(
        &self,
        request: PublishRequest,
        by: Instant,
    ) -> oneshot::Receiver<Result<Confirm>> {
        let request = self.stamped(request);
        let (answer, answered) = oneshot::channel();
        match self.enter(&request, by).await {
            Ok(Entry::With(permit)) => self.give(request, answer, permit),
            Ok(Entry::Alone(permit)) => self.give_alone(request, answer, permit),
            Err(error) => drop(answer.send(Err(error))),
        }
        answered
    }

    /// Messages say in which boot of the broker they were published.
    fn stamped(&self, request: PublishRequest) -> PublishRequest {
        match &self.0.boot {
            Some(boot) if request.properties.message_id().is_some() => {
                PublishRequest { properties: stamped(request.properties, boot), ..request }
            }
            _ => request,
        }
    }

    /// The boot of the broker, while its connection lives.
    pub(crate) fn boot(&self) -> Option<&str> {
        self.0.boot.as_deref()
    }

    /// Asks whether the broker takes publishes.
    ///
    /// # Errors
    /// It does not, or it does not answer by then.
    pub(crate) async fn probe(&self, by: Instant) -> Result<()> {
        let since = Instant::now();
        match timeout_at(by, self.ask(Duration::ZERO)).await {
            Ok(asked) => asked?,
            Err(_) => return Err(self.late(since)),
        }
        if self.0.session.is_blocked() { Err(self.0.session.blocked()) } else { Ok(()) }
    }

    async fn enter(&self, request: &PublishRequest, by: Instant) -> Result<Entry> {
        let since = Instant::now();
        let entered = match timeout_at(by, self.find_room(request.body.len())).await {
            Ok(entered) => entered?,
            Err(_) if self.0.session.is_blocked() => return Err(self.0.session.blocked()),
            Err(_) => return Err(self.late(since)),
        };
        if !self.0.may_write.load(Relaxed) {
            let said = format!("{}: this user may not publish to the default exchange", self.0.address);
            return Err(Error::denied(NAME, said));
        }
        Ok(entered)
    }

    async fn find_room(&self, bytes: usize) -> Result<Entry> {
        loop {
            self.ask(IDLE).await?;
            self.0.session.unblocked().await;
            let entry = match self.0.sizes.lock().of(bytes, Instant::now()) {
                Known::TooLarge(limit) => return Err(too_large(bytes, limit)),
                Known::Taken => None,
                Known::Untried => Some(()),
            };
            let entry = match entry {
                None => self.0.window.enter(bytes).await.map(Entry::With),
                Some(()) => self.0.window.enter_alone().await.map(Entry::Alone),
            };
            // Whoever waited for room may have waited for long.
            let as_known = |entry: &Entry| {
                let known = self.0.sizes.lock().of(bytes, Instant::now());
                matches!((entry, known), (Entry::With(_), Known::Taken) | (Entry::Alone(_), Known::Untried))
            };
            match entry {
                Some(entry) if as_known(&entry) && !self.is_held_up() => return Ok(entry),
                _ => tokio::task::yield_now().await,
            }
        }
    }

    fn is_held_up(&self) -> bool {
        self.0.session.is_blocked() && self.0.session.is_alive()
    }

    /// Asks the broker where nothing was heard of it for so long.
    async fn ask(&self, idle: Duration) -> Result<()> {
        if self.0.session.is_blocked() || self.0.heard.within(idle) {
            return Ok(());
        }
        let shared = self.0.clone();
        // A task of its own: a channel that is left in the middle of a call is lost.
        let asked = background().spawn(async move {
            let _one_at_a_time = shared.asking.lock().await;
            if shared.session.is_blocked() || shared.heard.within(idle) {
                return Ok(());
            }
            let may_write = shared.trial.ask().await.map_err(|error| shared.session.fault(&error))?;
            shared.may_write.store(may_write, Relaxed);
            shared.heard.now();
            Ok(())
        });
        asked.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Publishes what may be too large, where nobody else's message is.
    fn give_alone(&self, request: PublishRequest, answer: oneshot::Sender<Result<Confirm>>, permit: Permit) {
        let shared = self.0.clone();
        background().spawn(async move {
            let bytes = request.body.len();
            let tried = shared.trial.publish(request).await;
            let _ = answer.send(match tried {
                Ok(confirm) => {
                    shared.sizes.lock().took(bytes);
                    shared.heard.now();
                    confirm.ok_or_else(|| refused(&shared.address))
                }
                Err(error) => {
                    let limit = shared.sizes.lock().refused(bytes, &error.to_string(), Instant::now());
                    Err(limit.map_or_else(
                        || unknown(&shared.address, "", &error),
                        |limit| too_large(bytes, limit),
                    ))
                }
            });
            drop(permit);
        });
    }

    fn give(&self, request: PublishRequest, answer: oneshot::Sender<Result<Confirm>>, permit: Permit) {
        let PublishRequest { exchange, key, properties, body } = request;
        let key = ShortString::from(key);
        let open = self.0.session.answers.begin("publish");
        let id = properties.message_id().clone();
        let pending = Pending { exchange: exchange.clone(), key: key.clone(), id, answer, open, permit };
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
            return;
        }
        if let Some(written) = (&mut frames).now_or_never() {
            frames = std::future::ready(written).boxed();
        }
        // When nobody is there any more to see the confirm, the answer is dropped: nobody knows.
        let _ = self.0.requests.send(Command::Publish(pending, frames));
    }

    fn late(&self, since: Instant) -> Error {
        Error::timeout("publish, before anything was sent", since.elapsed(), Certainty::Definite)
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

fn too_large(bytes: usize, limit: usize) -> Error {
    Error::invalid(
        "payload",
        format!(
            "it has {bytes} bytes, and this broker takes at most {limit}: send less, or raise its max_message_size"
        ),
    )
}
