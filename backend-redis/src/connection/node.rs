//! A server and our connections to it: one to ask on and one to listen on, made again together whenever one of them fails.
//! Nothing outside knows which client is beneath.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::backend::{Deadline, Jitter, Refusals, background, wait_to_reconnect};
use polyqueue::{Certainty, Error, Result};
use redis::{PushInfo, PushKind, Value};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::address::{Address, NAME};
use crate::connection::answers::Answers;
use crate::connection::clock::Clock;
use crate::connection::denied;
use crate::connection::exchange::Wait;
use crate::connection::fault::Fault;
use crate::connection::handshake::{Handshake, Line, Server, Session};
use crate::connection::lateness::late;
use crate::connection::listener::Listener;
use crate::connection::marks::Marks;
use crate::connection::pace::Pace;
use crate::connection::state::State;
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// The wait before the first attempt to connect again, up to twice as short by chance: no more than five fall into a second …
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// … and before all that follow, doubled each time, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// To ask on, and to listen on.
const CONNECTIONS: u32 = 2;

/// One server, and the connections to it, which mend themselves: what every request is sent through.
pub(crate) struct Node {
    pub(super) address: Address,
    channels: Mutex<BTreeSet<String>>,
    pub(super) open_within: Duration,
    listener: Arc<dyn Listener<Self>>,
    state: watch::Sender<State>,
    /// The last look at the server's clock.
    clock: Mutex<Option<Clock>>,
    pace: Pace,
    pub(crate) answers: Answers,
    /// What it refuses.
    pub(crate) refusals: Refusals,
    pub(super) marks: Marks,
    /// Somebody looks whether the server tells us something.
    pub(super) checking: AtomicBool,
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
        listener: Arc<dyn Listener<Self>>,
    ) -> Result<(Arc<Self>, Server)> {
        let nothing = Error::unavailable(NAME, Certainty::Definite, "not connected yet");
        let state = watch::Sender::new(State::Down(nothing));
        let channels = Mutex::new(BTreeSet::from([channel.clone()]));
        let node = Arc::new(Self {
            address,
            channels,
            open_within,
            listener,
            state,
            clock: Mutex::default(),
            pace: Pace::default(),
            answers: Answers::default(),
            refusals: Refusals::default(),
            marks: Marks::new(channel),
            checking: AtomicBool::new(false),
        });
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
        let before = Instant::now();
        let (session, server) = handshake.connect(self.open_within).await?;
        *self.clock.lock() = server.time.map(|time| Clock::new(before, time));
        Ok((session, server))
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
                    self.marks.told(&text);
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
        self.send(&session, &session.asking, request, &limit, false).await
    }

    /// The same for what may bring much: it is not late while bytes come, up to many times its deadline.
    pub(crate) async fn call_for_much(self: &Arc<Self>, request: Request, limit: Deadline) -> Result<Answer> {
        let session = self.session(&limit).await?;
        let progress = &session.asking.progress;
        let _sharing = self.pace.share();
        let (before, began) = (progress.bytes(), Instant::now());
        let answer = self.send(&session, &session.asking, request, &limit, true).await;
        match &answer {
            Ok(_) => self.pace.measured(progress.bytes() - before, began.elapsed()),
            Err(_) => self.pace.failed(),
        }
        answer
    }

    /// The same for what brings little and must not stand behind what brings much.
    pub(crate) async fn call_beside(self: &Arc<Self>, request: Request, limit: Deadline) -> Result<Answer> {
        let session = self.session(&limit).await?;
        self.send(&session, &session.listening, request, &limit, false).await
    }

    /// How many bytes may be asked for so that they come well within `time`.
    pub(crate) fn budget(&self, time: Duration) -> u64 {
        self.pace.budget(time.min(self.open_within))
    }

    /// The last look at the server's clock.
    pub(crate) fn clock(&self) -> Option<Clock> {
        *self.clock.lock()
    }

    /// Somebody has looked at the server's clock.
    pub(crate) fn set_clock(&self, clock: Clock) {
        *self.clock.lock() = Some(clock);
    }

    async fn send(
        self: &Arc<Self>,
        session: &Session,
        line: &Line,
        request: Request,
        limit: &Deadline,
        much: bool,
    ) -> Result<Answer> {
        let sent = Instant::now();
        match self.ask(session, line, &request, limit, much).await {
            Ok(reply) => {
                self.refusals.worked(limit.what(), || request.about());
                Ok(Answer { reply, sent })
            }
            Err(fault) => Err(self.refused(session, &request, limit, fault).await),
        }
    }

    pub(super) async fn ask(
        self: &Arc<Self>,
        session: &Session,
        line: &Line,
        request: &Request,
        limit: &Deadline,
        much: bool,
    ) -> Result<Reply, Fault> {
        match self.exchange(session, line, request.command(), limit, much).await {
            Err(Fault::NoScript) => match request.with_text() {
                Some(command) => self.exchange(session, line, &command, limit, much).await,
                None => Err(Fault::NoScript),
            },
            reply => reply,
        }
    }

    /// The error that a fault is to the caller. What the server refuses is remembered, and what it denies is named.
    async fn refused(
        self: &Arc<Self>,
        session: &Session,
        request: &Request,
        limit: &Deadline,
        fault: Fault,
    ) -> Error {
        let (is_refusal, blocks) = (fault.is_refusal(), fault.blocks_writes().is_some());
        let mut error = self.judge(session, fault);
        if denied::is_unnamed(&error) {
            let question = denied::question(&request.about());
            let answer = self.ask(session, &session.asking, &question, limit, false).await;
            error = denied::named(error, answer.map(denied::commands).unwrap_or_default());
        }
        if is_refusal {
            self.refusals.refused(limit.what(), &request.about(), &error.to_string());
        }
        if blocks {
            self.listener.write_refused(self);
        }
        error
    }

    /// Listens on one more channel, over reconnections too.
    pub(crate) async fn subscribe(self: &Arc<Self>, channel: &str, limit: Deadline) -> Result<()> {
        // First, so that a connection that is made anew meanwhile asks for it by itself: twice is as once.
        self.channels.lock().insert(channel.to_owned());
        let session = self.session(&limit).await.inspect_err(|_| self.forget(channel))?;
        let line = &session.listening;
        let mut connection = line.connection.clone();
        line.progress.asked();
        let mut states = self.state.subscribe();
        let is_anew = |state: &State| state.session().is_ok_and(|it| it.generation != session.generation);
        let subscribed = self.answers.awaited(limit.what(), connection.subscribe(channel));
        let fault = tokio::select! {
            subscribed = timeout_at(limit.until(), subscribed) => match subscribed {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => Fault::from(error),
                Err(_) => late(line, &limit, self.open_within),
            },
            Ok(_) = states.wait_for(is_anew) => return Ok(()),
        };
        self.forget(channel);
        Err(self.judge(&session, fault))
    }

    fn forget(&self, channel: &str) {
        self.channels.lock().remove(channel);
    }

    /// Listens on these no longer.
    pub(crate) async fn unsubscribe(&self, channels: BTreeSet<String>, limit: Deadline) {
        self.channels.lock().retain(|channel| !channels.contains(channel));
        // To name none would mean all.
        if channels.is_empty() {
            return;
        }
        let Ok(session) = self.state.borrow().session() else { return };
        let mut listening = session.listening.connection.clone();
        let unsubscribed = self.answers.awaited(limit.what(), listening.unsubscribe(channels));
        let _ = timeout_at(limit.until(), unsubscribed).await;
    }

    /// Ends it for good. Calls under way end with what the server answers.
    pub(crate) fn close(&self) {
        self.state.send_replace(State::Closed);
    }

    /// Whether it has ended for good.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(&*self.state.borrow(), State::Closed)
    }

    /// What is wrong now, if anything.
    pub(crate) fn trouble(&self) -> Option<Error> {
        self.state.borrow().session().err()
    }

    /// Why nothing can be sent until there are connections again; nothing where there are, or never will be.
    pub(crate) fn obstacle(&self) -> Option<Error> {
        match &*self.state.borrow() {
            State::Down(error) => Some(error.clone()),
            State::Up(_) | State::Closed => None,
        }
    }

    /// Ends when there are connections again, or never will be.
    pub(crate) async fn unobstructed(&self) {
        let mut states = self.state.subscribe();
        let _ = states.wait_for(|state| !matches!(state, State::Down(_))).await;
    }

    pub(super) fn session_at_once(&self) -> Option<Arc<Session>> {
        self.state.borrow().session().ok()
    }

    pub(super) async fn session(&self, limit: &Deadline) -> Result<Arc<Session>> {
        if let State::Up(session) = &*self.state.borrow() {
            return Ok(session.clone());
        }
        let mut states = self.state.subscribe();
        let settled = states.wait_for(|state| !matches!(state, State::Down(_)));
        let _ = timeout_at(limit.connect_until(), settled).await;
        self.state.borrow().session()
    }

    pub(super) async fn exchange(
        self: &Arc<Self>,
        session: &Session,
        line: &Line,
        command: &redis::Cmd,
        limit: &Deadline,
        much: bool,
    ) -> Result<Reply, Fault> {
        let wait = Wait { line, limit, much: much.then_some(self.open_within), longest: self.open_within };
        wait.exchange(&self.answers, command, self.state.subscribe(), session.generation).await
    }

    /// Turns a fault into an error, and drops the connection where it cannot be trusted any more.
    pub(super) fn judge(self: &Arc<Self>, session: &Session, fault: Fault) -> Error {
        let drops = fault.drops_connection();
        let error = fault.into_error(&self.address);
        if drops {
            self.lost(session.generation, &error);
        }
        error
    }

    /// The connection of this generation is of no use any more: make another.
    pub(super) fn lost(self: &Arc<Self>, generation: u64, error: &Error) {
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
        wait_to_reconnect(CONNECTIONS).await;
        let Some(node) = node.upgrade() else { return };
        if node.is_closed() {
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
