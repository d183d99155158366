//! What a handle and its consumers share: connections, names, the catalogue, and the way out for every call.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::{Mutex, RwLock};
use polyqueue::{Certainty, ConnectOptions, Error, Limits, Meter, QueueName, Result};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::address::Address;
use crate::address::NAME;
use crate::connection::link::{Link, Session};
use crate::connection::publisher::{Confirm, PublishRequest, Publisher, lost};
use crate::publish::backpressure::QueueLocks;
use crate::publish::dedup::Keys;
use crate::queue_type::classic::QueueType;
use crate::topology::catalogue::Catalogue;
use crate::topology::delay_queues::{self, DelayQueue};
use crate::topology::unroutable;
use crate::wire::names::Names;

/// Seconds between heartbeats, at most. A task of the client library outlives its connection by half of it.
const HEARTBEAT: u16 = 5;
/// What a connection remembers when it has seen the low levels of the delay queues.
const LOW: &str = "cascade";
/// How long an orderly end may take, at most.
const FAREWELL: Duration = Duration::from_secs(2);

pub(crate) struct Core {
    pub(crate) address: Address,
    pub(crate) names: Names,
    pub(crate) kind: QueueType,
    pub(crate) limits: Limits,
    pub(crate) meter: Meter,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) deadline: Duration,
    pub(crate) keys: Keys,
    pub(crate) doors: QueueLocks,
    /// One of this handle's calls at a time drops what is too much.
    pub(crate) pruning: tokio::sync::Mutex<()>,
    clock_offset: TimeDelta,
    publishing: Link,
    publisher: RwLock<Option<Publisher>>,
    /// One call at a time opens a publisher.
    opening: tokio::sync::Mutex<()>,
    consuming: Mutex<BTreeMap<u16, Arc<Link>>>,
    levels: tokio::sync::Mutex<()>,
    /// One of this handle's calls at a time makes the catalogue.
    pub(crate) births: tokio::sync::Mutex<()>,
    closed: watch::Sender<bool>,
    /// Held by every task; all are gone when the receiver says so.
    pub(crate) alive: Mutex<Option<mpsc::Sender<()>>>,
    ended: tokio::sync::Mutex<mpsc::Receiver<()>>,
    /// Looks after delayed messages that found no queue.
    watcher: Mutex<Option<Watcher>>,
    /// Keeps the catalogue live for who publishes to topics.
    follower: Mutex<Option<Watcher>>,
    stranded: AtomicU64,
    me: Weak<Core>,
}

/// A task that ends with its handle.
struct Watcher(tokio::task::JoinHandle<()>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Core {
    pub(crate) async fn connect(options: ConnectOptions) -> Result<Arc<Self>> {
        let address = Address::parse(&options.url)?;
        let (alive, ended) = mpsc::channel(1);
        let core = Arc::new_cyclic(|me| Self {
            publishing: Link::new(address.clone(), "publisher", HEARTBEAT),
            kind: address.kind,
            catalogue: Arc::new(Catalogue::new(Names::new(options.namespace.clone()).catalogue())),
            names: Names::new(options.namespace),
            limits: Limits::default(),
            meter: Meter::default(),
            deadline: options.deadline,
            keys: Keys::new(options.dedup_store),
            doors: QueueLocks::default(),
            pruning: tokio::sync::Mutex::default(),
            clock_offset: options.clock_offset,
            publisher: RwLock::default(),
            opening: tokio::sync::Mutex::default(),
            consuming: Mutex::default(),
            levels: tokio::sync::Mutex::default(),
            births: tokio::sync::Mutex::default(),
            closed: watch::Sender::new(false),
            alive: Mutex::new(Some(alive)),
            ended: tokio::sync::Mutex::new(ended),
            watcher: Mutex::default(),
            follower: Mutex::default(),
            stranded: AtomicU64::new(0),
            me: me.clone(),
            address,
        });
        core.publishing.open(core.until()).await?;
        Ok(core)
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
        self.check_open()?;
        tokio::select! {
            biased;
            result = timeout_at(self.until(), call) => {
                result.unwrap_or_else(|_| Err(Error::timeout(what, self.deadline, Certainty::Unknown)))
            }
            () = self.closed() => Err(Error::Closed),
        }
    }

    /// The connection for everything that is not published and holds no lease.
    pub(crate) async fn control(&self) -> Result<Arc<Session>> {
        self.link(HEARTBEAT).session(self.until()).await
    }

    /// The connection for consumers whose process must be missed within `lease`.
    pub(crate) fn consuming(&self, lease: Duration) -> Arc<Link> {
        let wanted = (lease / 3).as_secs();
        let steps = [HEARTBEAT, 2, 1];
        self.link(steps.into_iter().find(|step| u64::from(*step) <= wanted).unwrap_or(1))
    }

    fn link(&self, heartbeat: u16) -> Arc<Link> {
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

    /// Publishes one message of our own making and waits for the confirm.
    pub(crate) async fn store(&self, request: PublishRequest) -> Result<Confirm> {
        let publisher = self.publisher().await?;
        publisher.publish(request).await.unwrap_or_else(|_| Err(lost()))
    }

    /// A request for a queue: at once, or through the delay queues.
    pub(crate) async fn request(
        &self,
        queue: &QueueName,
        address: &str,
        delay: Duration,
        properties: lapin::BasicProperties,
        body: bytes::Bytes,
    ) -> Result<PublishRequest> {
        let ready = self.names.ready(queue);
        match delay_queues::route(delay, address) {
            None => Ok(PublishRequest { exchange: String::new(), key: ready, properties, body }),
            Some(route) => {
                self.ensure_delay_queues(&[delay]).await?;
                let properties = crate::wire::republish::with_target(properties, &ready);
                Ok(PublishRequest { exchange: route.exchange, key: route.key, properties, body })
            }
        }
    }

    /// This handle, for work that must not be broken off with the call that wants it.
    pub(crate) fn shared(&self) -> Result<Arc<Self>> {
        self.me.upgrade().ok_or(Error::Closed)
    }

    /// Sees to it, once a connection, that the delay queues are there as far as these delays need it.
    ///
    /// The work goes on when the caller's deadline passes, so that the next call finds it done.
    pub(crate) async fn ensure_delay_queues(&self, delays: &[Duration]) -> Result<()> {
        let publisher = self.publisher().await?;
        let mut steps: Vec<DelayQueue> = delays.iter().copied().flat_map(delay_queues::high_steps).collect();
        steps.retain(|step| !publisher.knows(&step.queue()));
        if publisher.knows(LOW) && steps.is_empty() {
            return Ok(());
        }
        let core = self.shared()?;
        let work = tokio::spawn(async move { core.declare_delay_queues(publisher, steps).await });
        work.await.unwrap_or_else(|_| Err(lost()))
    }

    async fn declare_delay_queues(&self, publisher: Publisher, mut steps: Vec<DelayQueue>) -> Result<()> {
        let _one_at_a_time = self.levels.lock().await;
        if !publisher.knows(LOW) {
            delay_queues::ensure_low(&*self.control().await?).await?;
            publisher.remember(LOW.to_owned());
            self.watch_unrouted();
        }
        let mut seen = std::collections::HashSet::new();
        steps.retain(|step| !publisher.knows(&step.queue()) && seen.insert(*step));
        delay_queues::ensure_high(&*self.control().await?, &steps).await?;
        for step in steps {
            publisher.remember(step.queue());
        }
        Ok(())
    }

    fn watch_unrouted(&self) {
        let mut watcher = self.watcher.lock();
        let again = watcher.is_some();
        *watcher = Some(Watcher(tokio::spawn(unroutable::watch(self.me.clone(), again))));
    }

    /// Sees to it that the catalogue is read as it is written, from a moment from now on.
    pub(crate) fn follow_catalogue(&self) {
        let mut follower = self.follower.lock();
        if follower.as_ref().is_none_or(|Watcher(task)| task.is_finished()) {
            *follower = Some(Watcher(tokio::spawn(crate::publish::topic::follow(self.me.clone()))));
        }
    }

    /// How many delayed messages of this namespace lie where nobody knows their queue.
    pub(crate) fn note_stranded(&self, messages: u64) {
        self.stranded.store(messages, Relaxed);
    }

    pub(crate) fn stranded(&self) -> u64 {
        self.stranded.load(Relaxed)
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
        self.link(HEARTBEAT).session(by).await?.channel().await.map(drop)
    }

    /// Ends everything in order: consumers give back, publishes are answered, connections close.
    pub(crate) async fn close(&self) {
        self.closed.send_replace(true);
        self.alive.lock().take();
        self.watcher.lock().take();
        self.follower.lock().take();
        let by = Instant::now() + FAREWELL.min(self.deadline);
        let _ = timeout_at(by, async { self.ended.lock().await.recv().await }).await;
        let opening = self.opening.lock().await;
        let publisher = self.publisher.write().take();
        drop(opening);
        if let Some(publisher) = publisher {
            let _ = timeout_at(self.until(), publisher.drain()).await;
        }
        let links: Vec<Arc<Link>> = std::mem::take(&mut *self.consuming.lock()).into_values().collect();
        let consuming = links.iter().map(|link| link.close(FAREWELL));
        tokio::join!(self.publishing.close(FAREWELL), futures_util::future::join_all(consuming));
    }
}
