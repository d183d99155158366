//! A handle that is there before its broker.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::backend::{EventSender, Jitter, Lifecycle};
use crate::background::background_by_the_same_clock;
use crate::later::later;
use crate::{
    Admin, Certainty, Consumer, DeadFilter, DeadId, DeadPage, Destination, Error, Event, Events, Health,
    Inbox, Info, Limits, Message, MessageId, Page, Pattern, Published, Purge, Queue, QueueName, QueueSpec,
    QueueStats, Reschedule, Result, Subscription, async_trait,
};

/// From one attempt to connect to the next: at first, and at most. Each is shortened at random by up to half.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// One attempt to connect.
pub(crate) type Attempt = Box<dyn Fn() -> BoxFuture<'static, Result<Arc<dyn Queue>>> + Send + Sync>;

/// A handle whose broker may come later.
struct LazyQueue {
    info: Info,
    deadline: Duration,
    lifecycle: Lifecycle,
    events: EventSender,
    connection: Arc<Connection>,
}

/// What has come of connecting.
#[derive(Default)]
struct Connection {
    queue: OnceLock<Arc<dyn Queue>>,
    /// Why there is none yet.
    why_not: Mutex<Option<Error>>,
    connected: watch::Sender<bool>,
}

/// A handle that connects by `attempt`, again and again; at once where that takes no time.
///
/// # Panics
/// Outside a runtime.
pub(crate) fn lazily(info: Info, namespace: &str, deadline: Duration, attempt: Attempt) -> Arc<dyn Queue> {
    let events = EventSender::new(namespace);
    Arc::new(LazyQueue::start(info, deadline, Lifecycle::default(), events, attempt))
}

impl LazyQueue {
    fn start(
        info: Info,
        deadline: Duration,
        lifecycle: Lifecycle,
        events: EventSender,
        attempt: Attempt,
    ) -> Self {
        let connection = Arc::<Connection>::default();
        if let Some(Ok(queue)) = attempt().now_or_never() {
            connection.set(queue);
        }
        let work = connect(Arc::downgrade(&connection), lifecycle.clone(), events.clone(), attempt);
        background_by_the_same_clock().spawn(work);
        Self { info, deadline, lifecycle, events, connection }
    }

    /// The handle, where there is one now.
    fn now(&self) -> Result<&Arc<dyn Queue>> {
        self.lifecycle.check_open()?;
        self.connection.queue.get().ok_or_else(|| self.why_not())
    }

    /// The handle, or why there is none by the deadline.
    async fn ready(&self) -> Result<&Arc<dyn Queue>> {
        let mut connected = self.connection.connected.subscribe();
        let by = later(Instant::now(), self.deadline);
        let came = async {
            let _ = timeout_at(by, connected.wait_for(|connected| *connected)).await;
            Ok(())
        };
        self.lifecycle.while_open(came).await?;
        self.now()
    }

    /// Nothing was sent, whatever became of the attempt to connect.
    fn definite(&self, error: Error) -> Error {
        match error.certainty() {
            Certainty::Definite => error,
            Certainty::Unknown => {
                Error::unavailable(self.info.provider, Certainty::Definite, error.to_string())
            }
        }
    }

    fn why_not(&self) -> Error {
        self.connection.why_not.lock().clone().unwrap_or_else(|| {
            Error::unavailable(self.info.provider, Certainty::Definite, "not connected yet")
        })
    }
}

impl Connection {
    fn set(&self, queue: Arc<dyn Queue>) {
        let _ = self.queue.set(queue);
        self.connected.send_replace(true);
    }
}

/// Connects, and then passes on what happens; until the handle is closed or nobody has it any more.
async fn connect(connection: Weak<Connection>, lifecycle: Lifecycle, events: EventSender, attempt: Attempt) {
    let chance = Jitter::default();
    let mut failures = 0;
    let queue = loop {
        let Some(connection) = connection.upgrade() else { return };
        if let Some(queue) = connection.queue.get() {
            break queue.clone();
        }
        let attempted = tokio::select! {
            attempted = attempt() => attempted,
            () = lifecycle.closing() => return,
        };
        match attempted {
            Ok(queue) => {
                events.send(Event::ConnectionRestored { detail: "the first connection".into() });
                connection.set(queue);
            }
            Err(error) => *connection.why_not.lock() = Some(error),
        }
        drop(connection);
        tokio::select! {
            () = sleep(chance.backoff(FIRST_PAUSE, LONGEST_PAUSE, failures)) => {}
            () = lifecycle.closing() => return,
        }
        failures = failures.saturating_add(1);
    };
    let mut inner = queue.events();
    // A handle that nobody has any more must end: it is not kept for its events.
    drop(queue);
    while let Some(event) = inner.next().await {
        events.pass_on(event);
    }
}

#[async_trait]
impl Queue for LazyQueue {
    fn info(&self) -> Info {
        self.connection.queue.get().map_or_else(|| self.info.clone(), |queue| queue.info())
    }

    async fn declare(&self, spec: &QueueSpec) -> Result<()> {
        self.ready().await?.declare(spec).await
    }

    async fn publish(&self, to: &Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        match self.now() {
            Ok(queue) => queue.publish(to, batch).await,
            Err(error) => Err(self.definite(error)),
        }
    }

    async fn reschedule(&self, queue: &QueueName, id: &MessageId, to: Reschedule) -> Result<bool> {
        self.ready().await?.reschedule(queue, id, to).await
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        self.ready().await?.subscribe(subscription).await
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.ready().await?.inbox().await
    }

    async fn health(&self) -> Health {
        match self.now() {
            Ok(queue) => queue.health().await,
            Err(error) => Health::bad(self.info.provider, error.to_string()),
        }
    }

    fn events(&self) -> Events {
        self.events.events(&self.lifecycle)
    }

    fn namespace(&self, namespace: &str) -> Result<Arc<dyn Queue>> {
        Limits::default().check_namespace(namespace)?;
        let (lifecycle, events) = (self.lifecycle.child()?, self.events.child(namespace));
        let (connection, name) = (self.connection.clone(), namespace.to_owned());
        let attempt: Attempt = Box::new(move || {
            let (connection, name) = (connection.clone(), name.clone());
            async move {
                let mut connected = connection.connected.subscribe();
                let _ = connected.wait_for(|connected| *connected).await;
                connection.queue.get().ok_or(Error::Closed)?.namespace(&name)
            }
            .boxed()
        });
        Ok(Arc::new(Self::start(self.info.clone(), self.deadline, lifecycle, events, attempt)))
    }

    async fn close(&self) -> Result<()> {
        self.lifecycle.close();
        match self.connection.queue.get() {
            Some(queue) => queue.close().await,
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Admin for LazyQueue {
    async fn queues(&self) -> Result<Vec<QueueSpec>> {
        self.ready().await?.queues().await
    }

    async fn unbind(&self, queue: &QueueName, pattern: &Pattern) -> Result<()> {
        self.ready().await?.unbind(queue, pattern).await
    }

    async fn delete(&self, queue: &QueueName) -> Result<()> {
        self.ready().await?.delete(queue).await
    }

    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        self.ready().await?.stats(queue).await
    }

    async fn purge(&self, queue: &QueueName, what: Purge) -> Result<u64> {
        self.ready().await?.purge(queue, what).await
    }

    async fn dead_letters(&self, queue: &QueueName, filter: &DeadFilter, page: Page) -> Result<DeadPage> {
        self.ready().await?.dead_letters(queue, filter, page).await
    }

    async fn redrive(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        self.ready().await?.redrive(queue, ids).await
    }

    async fn discard(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        self.ready().await?.discard(queue, ids).await
    }
}

impl fmt::Debug for LazyQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazyQueue").field("queue", &self.connection.queue.get()).finish_non_exhaustive()
    }
}
