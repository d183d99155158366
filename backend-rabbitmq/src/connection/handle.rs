//! What one client shares: its connections, the way to publish, deadlines and its end.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::{Mutex, RwLock};
use polyqueue::{Certainty, Error, Limits, Meter, Result};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, timeout_at};

use crate::address::{Address, NAME};
use crate::connection::control::Control;
use crate::connection::link::{Link, Session};
use crate::connection::publisher::{Publisher, lost};
use crate::connection::request::{Confirm, PublishRequest};
use crate::queue_type::version::ServerVersion;

/// Seconds between heartbeats, at most. A task of the client library outlives its connection by half of it.
const HEARTBEAT: u16 = 5;
/// How long an orderly end may take, at most.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct Handle {
    pub(crate) address: Address,
    pub(crate) limits: Limits,
    pub(crate) meter: Meter,
    pub(crate) deadline: Duration,
    clock_offset: TimeDelta,
    publishing: Link,
    publisher: RwLock<Option<Publisher>>,
    /// One call at a time opens a publisher.
    opening: tokio::sync::Mutex<()>,
    consuming: Mutex<BTreeMap<u16, Arc<Link>>>,
    /// For everything that is not published and holds no lease.
    pub(crate) control: Control,
    closed: watch::Sender<bool>,
    /// Held by every task; all are gone when the receiver says so.
    pub(crate) alive: Mutex<Option<mpsc::Sender<()>>>,
    ended: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl Handle {
    pub(crate) async fn connect(
        address: Address,
        deadline: Duration,
        clock_offset: TimeDelta,
    ) -> Result<Arc<Self>> {
        let (alive, ended) = mpsc::channel(1);
        let consuming = Arc::new(Link::new(address.clone(), "consumer", HEARTBEAT));
        let handle = Arc::new(Self {
            publishing: Link::new(address.clone(), "publisher", HEARTBEAT),
            limits: Limits::default(),
            meter: Meter::default(),
            deadline,
            clock_offset,
            publisher: RwLock::default(),
            opening: tokio::sync::Mutex::default(),
            control: Control::new(consuming.clone(), deadline),
            consuming: Mutex::new(BTreeMap::from([(HEARTBEAT, consuming)])),
            closed: watch::Sender::new(false),
            alive: Mutex::new(Some(alive)),
            ended: tokio::sync::Mutex::new(ended),
            address,
        });
        handle.publishing.open(handle.until()).await?;
        Ok(handle)
    }

    /// When a call that begins now must end.
    pub(crate) fn until(&self) -> Instant {
        Instant::now() + self.deadline
    }

    /// This client's wall clock, in whole milliseconds.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        let now = Utc::now() + self.clock_offset;
        DateTime::from_timestamp_millis(now.timestamp_millis()).unwrap_or(now)
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if *self.closed.borrow() { Err(Error::Closed) } else { Ok(()) }
    }

    /// How a verb begins: each takes from the runtime's budget, so that none starves the others by answering at once.
    ///
    /// # Errors
    /// [`Error::Closed`] once the handle was closed.
    pub(crate) async fn begin(&self) -> Result<()> {
        consume_budget().await;
        self.check_open()
    }

    /// Ends when the handle is closed.
    pub(crate) async fn closed(&self) {
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// A call that ends by its deadline, and at once when the handle is closed.
    pub(crate) async fn bounded<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.begin().await?;
        tokio::select! {
            biased;
            result = timeout_at(self.until(), call) => {
                result.unwrap_or_else(|_| Err(Error::timeout(what, self.deadline, Certainty::Unknown)))
            }
            () = self.closed() => Err(Error::Closed),
        }
    }

    /// The broker's version; `None` when it does not say that it is a RabbitMQ.
    pub(crate) fn version(&self) -> Option<ServerVersion> {
        self.publishing.version()
    }

    /// The connection for consumers whose process must be missed within `lease`.
    pub(crate) fn consuming(&self, lease: Duration) -> Arc<Link> {
        let wanted = (lease / 3).as_secs();
        let steps = [HEARTBEAT, 2, 1];
        let heartbeat = steps.into_iter().find(|step| u64::from(*step) <= wanted).unwrap_or(1);
        let make = || Arc::new(Link::new(self.address.clone(), "consumer", heartbeat));
        self.consuming.lock().entry(heartbeat).or_insert_with(make).clone()
    }

    /// Where to publish.
    pub(crate) async fn publisher(&self) -> Result<Publisher> {
        if let Some(publisher) = self.publishing.live().and_then(|session| self.publisher_on(&session)) {
            return Ok(publisher);
        }
        let session = self.publishing.session(self.until()).await?;
        let _one_at_a_time = self.opening.lock().await;
        if let Some(publisher) = self.publisher_on(&session) {
            return Ok(publisher);
        }
        let publisher = Publisher::open(&session, &self.address).await?;
        *self.publisher.write() = Some(publisher.clone());
        Ok(publisher)
    }

    fn publisher_on(&self, session: &Session) -> Option<Publisher> {
        self.publisher.read().clone().filter(|publisher| publisher.is_alive(session))
    }

    /// A call that ends by then, and has done nothing when it ends so.
    pub(crate) async fn in_time<T>(
        &self,
        what: &'static str,
        by: Instant,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let late = |_| Err(Error::timeout(what, self.deadline, Certainty::Definite));
        timeout_at(by, call).await.unwrap_or_else(late)
    }

    /// Sends requests and waits for all answers.
    pub(crate) async fn send(
        &self,
        requests: Vec<PublishRequest>,
        by: Instant,
    ) -> Result<Vec<Result<Confirm>>> {
        let publisher = self.in_time("publish", by, self.publisher()).await?;
        self.check_open()?;
        let sent: Vec<oneshot::Receiver<Result<Confirm>>> =
            requests.into_iter().map(|request| publisher.publish(request)).collect();
        let mut answers = Vec::with_capacity(sent.len());
        for answer in sent {
            answers.push(self.answered(answer, by).await);
        }
        Ok(answers)
    }

    pub(crate) async fn answered(
        &self,
        answer: oneshot::Receiver<Result<Confirm>>,
        by: Instant,
    ) -> Result<Confirm> {
        match timeout_at(by, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(lost()),
            Err(_) => Err(Error::timeout("publish", self.deadline, Certainty::Unknown)),
        }
    }

    /// Publishes one message of our own making and waits for the confirm.
    pub(crate) async fn store(&self, request: PublishRequest) -> Result<Confirm> {
        let publisher = self.publisher().await?;
        publisher.publish(request).await.unwrap_or_else(|_| Err(lost()))
    }

    /// Whether calls can be expected to succeed now.
    pub(crate) async fn probe(&self, by: Instant) -> Result<()> {
        if *self.closed.borrow() {
            return Err(Error::Closed);
        }
        let publishing = self.publishing.session(by).await?;
        if publishing.is_blocked() {
            let said = format!("{}: the broker blocks publishes: a memory or disk alarm", self.address);
            return Err(Error::unavailable(NAME, Certainty::Definite, said));
        }
        publishing.channel().await?;
        self.control.probe(by).await
    }

    /// Ends everything in order: consumers give back, publishes are answered, connections close.
    pub(crate) async fn close(&self) {
        self.closed.send_replace(true);
        self.alive.lock().take();
        let by = Instant::now() + CLOSE_TIMEOUT.min(self.deadline);
        let _ = timeout_at(by, async { self.ended.lock().await.recv().await }).await;
        let opening = self.opening.lock().await;
        let publisher = self.publisher.write().take();
        drop(opening);
        if let Some(publisher) = publisher {
            let _ = timeout_at(self.until(), publisher.drain()).await;
        }
        let links: Vec<Arc<Link>> = std::mem::take(&mut *self.consuming.lock()).into_values().collect();
        let consuming = links.iter().map(|link| link.close(CLOSE_TIMEOUT));
        tokio::join!(self.publishing.close(CLOSE_TIMEOUT), futures_util::future::join_all(consuming));
    }
}
