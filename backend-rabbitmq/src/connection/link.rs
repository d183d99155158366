//! A connection that comes back: one purpose, one generation after another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::Connection;
use parking_lot::RwLock;
use polyqueue::backend::{EventSender, Jitter, background, wait_to_reconnect};
use polyqueue::{Certainty, Error, Event, Result};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::address::Address;
use crate::address::NAME;
use crate::connection::answered::Answers;
use crate::connection::dial::dial;
use crate::connection::fault::fault;
use crate::connection::hold_limit::HoldLimit;
use crate::connection::session::{CHANNELS, Session};
use crate::queue_type::version::ServerVersion;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that lived so long was not lost by what is done with it.
const STEADY: Duration = Duration::from_secs(10);
/// How long a handshake may take; after one that got no answer twice as long, up to the longest: the next one may be answered at once.
const HANDSHAKE: Duration = Duration::from_secs(3);
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);

/// Connects when somebody needs it, and again after a loss, pausing longer and longer, with jitter.
pub(crate) struct Link {
    address: Address,
    purpose: &'static str,
    heartbeat: u16,
    /// Whose it is, for operators.
    namespace: Arc<str>,
    /// How many errors of its channels it serves for.
    worn_after: u64,
    current: RwLock<Option<Arc<Session>>>,
    version: RwLock<Option<ServerVersion>>,
    attempts: Arc<Mutex<Attempts>>,
    last_error: RwLock<Option<Error>>,
    /// One was lost, and no other has taken its place.
    lost: Arc<AtomicBool>,
    closed: Arc<AtomicBool>,
    answers: Answers,
    hold_limit: HoldLimit,
    events: EventSender,
}

/// The attempts of all connections of a client to its one broker: one at a time, and one pause for all.
#[derive(Default)]
pub(crate) struct Attempts {
    failures: u32,
    /// Handshakes one after the other that got no answer.
    unanswered: u32,
    not_before: Option<Instant>,
}

impl Attempts {
    /// One that dies as soon as it is made is a failure, too: it is not made again without a pause.
    fn succeeded(&mut self, before: Option<&Arc<Session>>) {
        // One that lives was worn out, not lost.
        let steady = before.is_none_or(|session| session.is_alive() || session.born.elapsed() >= STEADY);
        self.unanswered = 0;
        self.failures = if steady { 0 } else { self.failures.saturating_add(1) };
        self.not_before = (!steady).then(|| Instant::now() + pause(self.failures));
    }
}

fn pause(failures: u32) -> Duration {
    Jitter::default().backoff(FIRST_PAUSE, LONGEST_PAUSE, failures)
}

impl Link {
    /// A link that is not connected yet; `heartbeat` in seconds.
    pub(crate) fn new(
        address: Address,
        purpose: &'static str,
        heartbeat: u16,
        attempts: Arc<Mutex<Attempts>>,
        answers: Answers,
        events: EventSender,
    ) -> Self {
        Self {
            address,
            purpose,
            heartbeat,
            namespace: "".into(),
            worn_after: u64::MAX,
            current: RwLock::default(),
            version: RwLock::default(),
            attempts,
            last_error: RwLock::default(),
            lost: Arc::default(),
            closed: Arc::default(),
            answers,
            hold_limit: HoldLimit::default(),
            events,
        }
    }

    /// The same, called after a namespace.
    pub(crate) fn of(self, namespace: Arc<str>) -> Self {
        Self { namespace, ..self }
    }

    /// The same, which tells all of its client how long a message may be held.
    pub(crate) fn learning(self, hold_limit: HoldLimit) -> Self {
        Self { hold_limit, ..self }
    }

    /// The same, replaced by another connection after so many errors of its channels. What goes on on the former one comes to its
    /// end there.
    pub(crate) fn worn_after(self, errors: u64) -> Self {
        Self { worn_after: errors, ..self }
    }

    /// The living connection, when there is one.
    pub(crate) fn live(&self) -> Option<Arc<Session>> {
        let is_fit = |session: &Arc<Session>| session.is_alive() && !self.is_worn(session);
        self.current.read().clone().filter(is_fit)
    }

    /// Whether so many channels ended by an error that another connection is to take its place. The client library may keep a channel's
    /// number for good that ended so.
    fn is_worn(&self, session: &Session) -> bool {
        if self.worn_after == u64::MAX {
            return false;
        }
        let granted = match session.channel_max() {
            0 => CHANNELS as u64,
            granted => granted.into(),
        };
        *session.errors.borrow() >= self.worn_after.min(granted / 4).max(1)
    }

    /// How many consumers it has room for, with some channels to spare for those that change theirs.
    pub(crate) fn consumers(&self) -> usize {
        let allowed = self.live().map_or(CHANNELS, |session| session.channel_max().into());
        (allowed - allowed / 8).max(1)
    }

    /// The broker's version, by the latest connection.
    pub(crate) fn version(&self) -> Option<ServerVersion> {
        *self.version.read()
    }

    /// A living connection; made now, by `until`, when there is none.
    pub(crate) async fn session(&self, until: Instant) -> Result<Arc<Session>> {
        if let Some(session) = self.live() {
            return Ok(session);
        }
        let Ok(mut attempts) = timeout_at(until, self.attempts.lock()).await else {
            return Err(self.why_not());
        };
        loop {
            if self.closed.load(Relaxed) {
                return Err(Error::Closed);
            }
            if let Some(session) = self.live() {
                return Ok(session);
            }
            if let Some(at) = attempts.not_before {
                if at >= until {
                    sleep_until(until).await;
                    return Err(self.why_not());
                }
                sleep_until(at).await;
            }
            let is_first = attempts.failures == 0 && self.current.read().is_none();
            if !is_first && timeout_at(until, wait_to_reconnect(1)).await.is_err() {
                return Err(self.why_not());
            }
            let limit = HANDSHAKE.saturating_mul(1 << attempts.unanswered.min(4)).min(LONGEST_HANDSHAKE);
            let by = Instant::now() + limit;
            match self.connect(until.min(by)).await {
                Ok(session) => {
                    attempts.succeeded(self.current.read().as_ref());
                    *self.last_error.write() = None;
                    *self.current.write() = Some(session.clone());
                    if self.lost.swap(false, Relaxed) {
                        self.events.send_to_all(Event::ConnectionRestored { detail: self.named() });
                    }
                    return Ok(session);
                }
                Err(error) => {
                    attempts.unanswered += u32::from(Instant::now() >= by);
                    self.failed(&mut attempts, &error);
                    if !error.is_transient() {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// One attempt, for the opening of a handle: an address that is wrong is said at once.
    pub(crate) async fn open(&self, until: Instant) -> Result<Arc<Session>> {
        let session = self.connect(until.min(Instant::now() + LONGEST_HANDSHAKE)).await?;
        *self.current.write() = Some(session.clone());
        Ok(session)
    }

    fn failed(&self, attempts: &mut Attempts, error: &Error) {
        let pause = pause(attempts.failures);
        attempts.failures = attempts.failures.saturating_add(1);
        attempts.not_before = Some(Instant::now() + pause);
        tracing::warn!(
            name: "rabbitmq.reconnect_failed", address = %self.address, purpose = self.purpose,
            failures = attempts.failures, %error, "could not connect, and tries again");
        *self.last_error.write() = Some(error.clone());
    }

    fn why_not(&self) -> Error {
        self.last_error.read().clone().unwrap_or_else(|| {
            let said = format!("{}: no connection yet", self.address);
            Error::unavailable(NAME, Certainty::Definite, said)
        })
    }

    async fn connect(&self, by: Instant) -> Result<Arc<Session>> {
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        // A task of its own: a handshake that is dropped half-way would never be cleaned up.
        let dialled = background().spawn(dial(self.address.clone(), self.heartbeat, self.called(), by));
        let (connection, version) = match timeout_at(by, self.answers.unbounded("connecting", dialled)).await
        {
            Ok(Ok(dialled)) => dialled.map_err(|e| fault(&self.address, Certainty::Definite, &e))?,
            Ok(Err(_)) | Err(_) => {
                let said = format!("{}: no answer to the connection's handshake", self.address);
                return Err(Error::unavailable(NAME, Certainty::Definite, said));
            }
        };
        let generation = GENERATION.fetch_add(1, Relaxed);
        *self.version.write() = version;
        tracing::debug!(
            name: "rabbitmq.connected", address = %self.address, purpose = self.purpose, generation,
            version = version.map(tracing::field::display), "connected");
        let (errors, blocked) = self.watch(&connection);
        Ok(Arc::new(Session {
            connection,
            answers: self.answers.clone(),
            generation,
            address: self.address.clone(),
            errors,
            blocked,
            born: Instant::now(),
            silent: AtomicBool::new(false),
        }))
    }

    /// What operators see of it.
    fn called(&self) -> String {
        let program = std::env::current_exe().ok();
        let program =
            program.as_deref().and_then(|path| path.file_name()).unwrap_or_default().to_string_lossy();
        format!("polyqueue {} of {}, {program} {}", self.purpose, self.namespace, std::process::id())
    }

    fn named(&self) -> String {
        format!("{}, {}", self.address, self.purpose)
    }

    /// Tells what happens to a connection, and counts its errors, by a task that ends with it.
    fn watch(&self, connection: &Connection) -> (watch::Receiver<u64>, watch::Receiver<bool>) {
        let mut happened = connection.events_listener().boxed();
        let (status, named, events) = (connection.status().clone(), self.named(), self.events.clone());
        let (lost, closed, limit) = (self.lost.clone(), self.closed.clone(), self.hold_limit.clone());
        let (count, errors) = watch::channel(0);
        let (alarm, blocked) = watch::channel(false);
        background().spawn(async move {
            while let Some(event) = happened.next().await {
                match event {
                    lapin::Event::ConnectionBlocked(reason) => {
                        let _ = alarm.send(true);
                        events.send_to_all(Event::Blocked { detail: format!("{named}: {reason}") });
                    }
                    lapin::Event::ConnectionUnblocked => {
                        let _ = alarm.send(false);
                        events.send_to_all(Event::Unblocked);
                    }
                    lapin::Event::Error(error) => {
                        limit.learn(&error);
                        count.send_modify(|errors| *errors += 1);
                        let gone = !status.connected() && !closed.load(Relaxed);
                        if gone && !lost.swap(true, Relaxed) {
                            let detail = format!("{named}: {error}");
                            events.send_to_all(Event::ConnectionLost { detail });
                        }
                    }
                    _ => {}
                }
            }
        });
        (errors, blocked)
    }

    /// Ends the connection for good.
    pub(crate) async fn close(&self, within: Duration) {
        self.closed.store(true, Relaxed);
        let session = self.current.write().take();
        if let Some(session) = session.filter(|session| session.is_alive()) {
            let _ = timeout(within, session.connection.close(200, "closed".into())).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::queries::fence;
    use polyqueue::TlsOptions;
    use polyqueue_conformance::broker::{Broker, RabbitBroker};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn the_error_of_a_channel_is_not_that_of_a_later_one() {
        let broker = RabbitBroker::start().await.unwrap();
        let address = Address::parse(&broker.url(), &TlsOptions::default()).unwrap();
        let (attempts, answers) = (Arc::default(), Answers::default());
        let link = Link::new(address, "test", 5, attempts, answers, EventSender::new("test"));
        let session = link.session(Instant::now() + LONGEST_HANDSHAKE).await.unwrap();
        let refused = fence(session.channel().await.unwrap(), "nowhere".into()).await;
        assert!(refused.is_err());
        for nth in 0..2 * CHANNELS {
            let opened = session.channel().await;
            assert!(opened.is_ok(), "channel {nth} after the one that was refused: {:?}", opened.err());
        }
        link.close(LONGEST_HANDSHAKE).await;
    }

    /// At each step, also right behind what the broker has said.
    #[tokio::test]
    async fn a_handshake_ends_with_its_stream() {
        const START: &[u8] = b"\x01\0\0\0\0\0\x3e\0\x0a\0\x0a\0\x09\0\0\0\x27\
            \x07productS\0\0\0\x08RabbitMQ\x07versionS\0\0\0\x054.3.0\0\0\0\x05PLAIN\0\0\0\0\xce";
        const TUNE: &[u8] = b"\x01\0\0\0\0\0\x0c\0\x0a\0\x1e\x07\xff\0\x02\0\0\0\0\xce";
        let steps: [&[&[u8]]; 4] = [&[], &[START], &[START, b""], &[START, b"", TUNE]];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("amqp://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let address = Address::parse(&url, &TlsOptions::default()).unwrap();
        for (nth, said) in steps.iter().enumerate() {
            let by = Instant::now() + Duration::from_secs(60);
            let dialled = tokio::spawn(dial(address.clone(), 0, "test".into(), by));
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = [0; 1_000];
            stream.read_exact(&mut heard[..8]).await.unwrap();
            for said in *said {
                match said {
                    [] => drop(stream.read(&mut heard).await.unwrap()),
                    said => stream.write_all(said).await.unwrap(),
                }
            }
            drop(stream);
            let ended = timeout(Duration::from_secs(5), dialled).await;
            assert!(ended.is_ok_and(|ended| ended.unwrap().is_err()), "after {nth} steps");
        }
    }

    #[tokio::test]
    async fn an_address_of_ipv6_is_dialled() {
        let Ok(listener) = TcpListener::bind((std::net::Ipv6Addr::LOCALHOST, 0)).await else { return };
        let url = format!("amqp://[::1]:{}", listener.local_addr().unwrap().port());
        let by = Instant::now() + Duration::from_secs(10);
        let dialled =
            tokio::spawn(dial(Address::parse(&url, &TlsOptions::default()).unwrap(), 0, "test".into(), by));
        let (mut stream, _) = timeout_at(by, listener.accept()).await.unwrap().unwrap();
        let mut greeting = [0; 4];
        timeout_at(by, stream.read_exact(&mut greeting)).await.unwrap().unwrap();
        assert_eq!(&greeting, b"AMQP");
        dialled.abort();
    }
}
