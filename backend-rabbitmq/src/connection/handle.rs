//! What one handle has: the connections, its deadlines, its counters and its end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use polyqueue::backend::{EventSender, Lifecycle, Meter, ProgressWatch};
use polyqueue::{Certainty, ConnectOptions, Error, Limits, Result};
use tokio::sync::oneshot;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, timeout_at};

use crate::address::{Address, NAME};
use crate::connection::connections::Connections;
use crate::connection::control::Control;
use crate::connection::hold_limit::HoldLimit;
use crate::connection::link::Link;
use crate::connection::publisher::{Publisher, lost};
use crate::connection::request::{Confirm, PublishRequest};
use crate::queue_type::version::ServerVersion;

/// How long an orderly end may take, at most.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct Handle {
    pub(crate) address: Address,
    pub(crate) limits: Limits,
    pub(crate) meter: Meter,
    pub(crate) deadline: Duration,
    clock_offset: TimeDelta,
    connections: Arc<Connections>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) events: EventSender,
    pub(crate) watch: ProgressWatch,
    /// The connections are another's.
    is_child: bool,
}

impl Handle {
    pub(crate) async fn connect(address: Address, options: &ConnectOptions) -> Result<Arc<Self>> {
        let events = EventSender::new(&options.namespace);
        let handle = Arc::new(Self {
            limits: Limits::default(),
            meter: Meter::default(),
            deadline: options.deadline,
            clock_offset: options.clock_offset,
            connections: Arc::new(Connections::new(
                address.clone(),
                &options.namespace,
                options.deadline,
                &events,
            )),
            lifecycle: Lifecycle::default(),
            events,
            watch: ProgressWatch::default(),
            is_child: false,
            address,
        });
        handle.connections.publishing.open(handle.until()).await?;
        Ok(handle)
    }

    /// A handle in another namespace that ends with this one, over the same connections.
    ///
    /// # Errors
    /// `Closed` once this one was closed.
    pub(crate) fn child(&self, namespace: &str) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            address: self.address.clone(),
            limits: self.limits.clone(),
            meter: Meter::default(),
            deadline: self.deadline,
            clock_offset: self.clock_offset,
            connections: self.connections.clone(),
            lifecycle: self.lifecycle.child()?,
            events: self.events.child(namespace),
            watch: ProgressWatch::default(),
            is_child: true,
        }))
    }

    /// For everything that is not published and holds no lease.
    pub(crate) fn control(&self) -> &Control {
        &self.connections.control
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
        self.lifecycle.check_open()
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
        self.lifecycle.closing().await;
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
                result.unwrap_or_else(|_| Err(self.late(what)))
            }
            () = self.closed() => Err(Error::Closed),
        }
    }

    /// The error of a call that did not end in time: what holds it up, where that is known.
    fn late(&self, what: &'static str) -> Error {
        if self.blocked().is_none() {
            return Error::timeout(what, self.deadline, Certainty::Unknown);
        }
        let (address, within) = (&self.address, self.deadline);
        let said = format!(
            "{address}: {what} did not end within {within:?}: the broker blocks publishes: a memory or disk alarm"
        );
        Error::unavailable(NAME, Certainty::Unknown, said)
    }

    /// The broker's version; `None` when it does not say that it is a RabbitMQ.
    pub(crate) fn version(&self) -> Option<ServerVersion> {
        self.connections.publishing.version()
    }

    /// The connection for consumers whose process must be missed within `lease`.
    pub(crate) fn consuming(&self, lease: Duration) -> Arc<Link> {
        self.connections.consuming(lease)
    }

    /// How long the broker lets a message be held.
    pub(crate) fn hold_limit(&self) -> &HoldLimit {
        &self.connections.hold_limit
    }

    /// A connection of its own for one purpose, with so many seconds between heartbeats.
    pub(crate) fn link(&self, purpose: &'static str, heartbeat: u16) -> Link {
        self.connections.beside(purpose, heartbeat)
    }

    /// Where to publish.
    pub(crate) async fn publisher(&self) -> Result<Publisher> {
        self.connections.publisher(self.until()).await
    }

    /// Which boot of the broker it is, as far as what publishes knows.
    pub(crate) fn boot(&self) -> Option<String> {
        self.connections.boot()
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

    /// Sends requests, each made when there is room for it, and waits for all answers.
    pub(crate) async fn send(
        &self,
        requests: impl ExactSizeIterator<Item = PublishRequest>,
        by: Instant,
    ) -> Result<Vec<Result<Confirm>>> {
        let publisher = self.in_time("publish", by, self.publisher()).await?;
        self.check_open()?;
        let mut sent: Vec<oneshot::Receiver<Result<Confirm>>> = Vec::with_capacity(requests.len());
        for request in requests {
            sent.push(publisher.publish(request, by).await);
        }
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
        let (publisher, by) = (self.publisher().await?, self.until());
        self.answered(publisher.publish(request, by).await, by).await
    }

    /// A call that is not answered though it should be, in words.
    pub(crate) fn overdue(&self) -> Option<String> {
        self.connections.answers.overdue()
    }

    /// The call that has waited longest for an answer, in words.
    pub(crate) fn oldest_call(&self) -> Option<String> {
        self.connections.answers.oldest()
    }

    /// For tests: whose calls get no answer.
    #[cfg(test)]
    pub(crate) fn starved(&self) -> crate::connection::starved::Starved {
        self.connections.answers.starved.clone()
    }

    /// The error of who would publish, where the broker is known to block publishes.
    pub(crate) fn blocked(&self) -> Option<Error> {
        self.connections
            .publishing
            .live()
            .filter(|session| session.is_blocked())
            .map(|session| session.blocked())
    }

    /// Whether calls can be expected to succeed now.
    pub(crate) async fn probe(&self, by: Instant) -> Result<()> {
        self.check_open()?;
        self.connections.publisher(by).await?.probe(by).await?;
        self.control().probe(by).await
    }

    /// Ends everything in order: consumers give back, publishes are answered, connections close unless others use them.
    pub(crate) async fn close(&self) {
        let by = self.until();
        self.lifecycle.close();
        // A consumer that hangs takes no time away from those who publish.
        let _ = tokio::join!(timeout_at(by, self.lifecycle.idle()), self.connections.drain(by));
        if self.is_child {
            self.connections.drain(by).await;
        } else {
            self.connections.close(by, CLOSE_TIMEOUT).await;
        }
    }
}
