//! A server and our connections to it: one to ask on and one to listen on, made again together whenever one of them fails.
//! Nothing outside knows which client is beneath.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use polyqueue::backend::{Deadline, Jitter, background};
use polyqueue::{Certainty, Error, Result};
use redis::{PushInfo, PushKind, Value};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::address::{Address, NAME};
use crate::connection::fault;
use crate::connection::fault::Fault;
use crate::connection::handshake::{Handshake, Server, Session};
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// The wait before the first attempt to connect again, up to twice as short by chance …
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// … and before all that follow, doubled each time, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Hears what the server says unasked.
pub(crate) trait Listener: Send + Sync + 'static {
    /// Something was published on one of our channels.
    fn heard(&self, node: &Arc<Node>, channel: &str, text: Bytes);
    /// The connections were lost, for this reason.
    fn lost(&self, node: &Node, error: &Error);
    /// They were made anew; what was said meanwhile is lost.
    fn reconnected(&self, node: &Node);
}

/// One server, and the connections to it, which mend themselves: what every request is sent through.
pub(crate) struct Node {
    address: Address,
    channels: Mutex<BTreeSet<String>>,
    open_within: Duration,
    listener: Arc<dyn Listener>,
    state: watch::Sender<State>,
}

enum State {
    Up(Arc<Session>),
    Down(Error),
    Closed,
}

impl State {
    fn session(&self) -> Result<Arc<Session>> {
        match self {
            Self::Up(session) => Ok(session.clone()),
            Self::Down(error) => Err(error.clone()),
            Self::Closed => Err(Error::Closed),
        }
    }

    fn is_up(&self, generation: u64) -> bool {
        matches!(self, Self::Up(session) if session.generation == generation)
    }
}

/// An answer and when its request was sent.
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) sent: Instant,
}

impl Node {
    /// Connects, or says why not.
    pub(crate) async fn open(
        address: Address,
        channel: String,
        open_within: Duration,
        listener: Arc<dyn Listener>,
    ) -> Result<(Arc<Self>, Server)> {
        let nothing = Error::unavailable(NAME, Certainty::Definite, "not connected yet");
        let state = watch::Sender::new(State::Down(nothing));
        let channels = Mutex::new(BTreeSet::from([channel]));
        let node = Arc::new(Self { address, channels, open_within, listener, state });
        let (session, server) = node.connect(0).await?;
        node.state.send_replace(State::Up(Arc::new(session)));
        Ok((node, server))
    }

    /// Connects, so that the connections outlive the caller's runtime and need none of its threads.
    async fn connect(self: &Arc<Self>, generation: u64) -> Result<(Session, Server)> {
        let node = self.clone();
        let connected = background().spawn(async move { node.connect_here(generation).await }).await;
        connected.unwrap_or_else(|ended| {
            let said = format!("{}: connecting was given up: {ended}", self.address);
            Err(Error::unavailable(NAME, Certainty::Definite, said))
        })
    }

    async fn connect_here(self: &Arc<Self>, generation: u64) -> Result<(Session, Server)> {
        let node = Arc::downgrade(self);
        let push = move |push| {
            if let Some(node) = node.upgrade() {
                node.pushed(generation, push);
            }
            Ok(())
        };
        let channels = self.channels.lock().iter().cloned().collect();
        let handshake = Handshake { address: &self.address, channels, generation, push };
        handshake.connect(self.open_within).await
    }

    /// What the server says unasked.
    fn pushed(self: &Arc<Self>, generation: u64, push: PushInfo) {
        match push.kind {
            PushKind::Disconnection => {
                let closed = "the server closed the connection";
                self.lost(generation, &Error::unavailable(NAME, Certainty::Unknown, closed));
            }
            PushKind::Message => {
                if let Ok([Value::BulkString(channel), Value::BulkString(text)]) =
                    <[Value; 2]>::try_from(push.data)
                {
                    self.listener.heard(self, &String::from_utf8_lossy(&channel), text.into());
                }
            }
            _ => {}
        }
    }

    /// Sends a request and waits for its answer. Never sends it twice: only a script that the server says it does not know,
    /// and hence did not run, is sent again with its text.
    pub(crate) async fn call(self: &Arc<Self>, request: Request, limit: Deadline) -> Result<Answer> {
        let session = self.session(&limit).await?;
        let sent = Instant::now();
        let reply = match self.exchange(&session, request.command(), &limit).await {
            Err(Fault::NoScript) => match request.with_text() {
                Some(command) => self.exchange(&session, &command, &limit).await,
                None => Err(Fault::NoScript),
            },
            reply => reply,
        };
        Ok(Answer { reply: reply.map_err(|fault| self.judge(&session, fault))?, sent })
    }

    /// Listens on one more channel, over reconnections too.
    pub(crate) async fn subscribe(self: &Arc<Self>, channel: &str, limit: Deadline) -> Result<()> {
        let session = self.session(&limit).await?;
        self.channels.lock().insert(channel.to_owned());
        // Made anew in the meantime, the connection has asked for it by itself: twice is as once.
        let mut subscriber = session.subscriber.clone();
        let subscribed = timeout_at(limit.until(), subscriber.subscribe(channel)).await;
        let fault = match subscribed {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Fault::from(error),
            Err(_) => Fault::Late(limit.error(Certainty::Unknown)),
        };
        self.channels.lock().remove(channel);
        Err(self.judge(&session, fault))
    }

    /// Listens on these no longer.
    pub(crate) async fn unsubscribe(&self, channels: BTreeSet<String>, limit: Deadline) {
        self.channels.lock().retain(|channel| !channels.contains(channel));
        // To name none would mean all.
        if channels.is_empty() {
            return;
        }
        let Ok(session) = self.state.borrow().session() else { return };
        let mut subscriber = session.subscriber.clone();
        let _ = timeout_at(limit.until(), subscriber.unsubscribe(channels)).await;
    }

    /// Waits until all was heard that the server has said up to now.
    pub(crate) async fn await_notifications(&self, limit: Deadline) {
        let Ok(session) = self.state.borrow().session() else { return };
        let mut subscriber = session.subscriber.clone();
        let _ = timeout_at(limit.until(), subscriber.send_packed_command(&redis::cmd("PING"))).await;
    }

    /// Ends it for good. Calls under way end with what the server answers.
    pub(crate) fn close(&self) {
        self.state.send_replace(State::Closed);
    }

    /// What is wrong now, if anything.
    pub(crate) fn trouble(&self) -> Option<Error> {
        self.state.borrow().session().err()
    }

    async fn session(&self, limit: &Deadline) -> Result<Arc<Session>> {
        if let State::Up(session) = &*self.state.borrow() {
            return Ok(session.clone());
        }
        let mut states = self.state.subscribe();
        let settled = states.wait_for(|state| !matches!(state, State::Down(_)));
        let _ = timeout_at(limit.connect_until(), settled).await;
        self.state.borrow().session()
    }

    async fn exchange(
        self: &Arc<Self>,
        session: &Arc<Session>,
        command: &redis::Cmd,
        limit: &Deadline,
    ) -> Result<Reply, Fault> {
        let mut connection = session.connection.clone();
        let mut states = self.state.subscribe();
        let lost = |state: &State| !matches!(state, State::Closed) && !state.is_up(session.generation);
        tokio::select! {
            biased;
            answer = connection.send_packed_command(command) => fault::read(answer),
            _ = states.wait_for(lost) => Err(Fault::Lost("the connection was lost".into())),
            () = sleep_until(limit.until()) => Err(Fault::Late(limit.error(Certainty::Unknown))),
        }
    }

    /// Turns a fault into an error, and drops the connection where it cannot be trusted any more.
    fn judge(self: &Arc<Self>, session: &Session, fault: Fault) -> Error {
        let drops = fault.drops_connection();
        let error = fault.into_error(&self.address);
        if drops {
            self.lost(session.generation, &error);
        }
        error
    }

    /// The connection of this generation is of no use any more: make another.
    fn lost(self: &Arc<Self>, generation: u64, error: &Error) {
        let mut lost = false;
        let down = Error::unavailable(NAME, Certainty::Definite, format!("{}: {error}", self.address));
        self.state.send_if_modified(|state| {
            lost = state.is_up(generation);
            if lost {
                *state = State::Down(down);
            }
            lost
        });
        if lost {
            self.listener.lost(self, error);
            background().spawn(reconnect(Arc::downgrade(self), generation + 1));
        }
    }
}

/// Tries until it succeeds, or until nobody wants it any more.
async fn reconnect(node: Weak<Node>, generation: u64) {
    let chance = Jitter::default();
    for attempt in 0.. {
        tokio::time::sleep(chance.backoff(FIRST_PAUSE, LONGEST_PAUSE, attempt)).await;
        let Some(node) = node.upgrade() else { return };
        if matches!(&*node.state.borrow(), State::Closed) {
            return;
        }
        let connected = node.connect(generation).await;
        let up = connected.is_ok();
        let state = connected.map_or_else(State::Down, |(session, _)| State::Up(Arc::new(session)));
        node.state.send_if_modified(|old| {
            let open = !matches!(old, State::Closed);
            if open {
                *old = state;
            }
            open
        });
        if up {
            node.listener.reconnected(&node);
            return;
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("address", &self.address).finish_non_exhaustive()
    }
}
