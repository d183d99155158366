//! A worker: fetches messages, gives each to the handler of its kind, and sees that every one gets its verdict.

mod blocking;
mod death;
mod drain;
mod execute;
mod fetch;
mod handler;
mod handlers;
mod handoff;
#[cfg(test)]
mod handoff_orders;
mod job;
mod job_fn;
mod lease;
mod leases;
mod options;
mod pace;
mod plan;
mod pulse;
mod release_rate;
mod report;
mod responder;
mod retry_wait;
mod route;
mod run;
mod running;
mod served;
mod settings;
mod settle;
mod slab;
mod slots;
mod tasks;
mod turn;
mod unknown;
mod watch;

use std::fmt;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Either;

pub use blocking::{Blocking, blocking};
pub use death::{DeadLetterHook, Death};
pub use execute::Versions;
pub use handler::{Handler, With, with};
pub use job::Job;
pub use lease::Lease;
pub use options::HandlerOptions;
pub use report::Report;
pub use responder::Responder;
pub use unknown::Unknown;

use death::Hook;
use handler::{ErasedHandler, Others, Typed};
use handlers::Handlers;
use plan::Plan;
use responder::Answering;
use run::run;
use settings::Settings;
use unknown::UnknownKinds;

pub(crate) use retry_wait::retry_wait;

use crate::{Error, Failure, Payload, Queue, QueueName, Result, RetryPolicy};

/// Handles the messages of one or more queues.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use polyqueue::{Failure, Job, Payload, QueueExt, QueueName, QueueSpec, Worker};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Welcome { user: String }
/// impl Payload for Welcome { const KIND: &'static str = "welcome"; }
///
/// async fn welcome(job: Job<Welcome>) -> Result<(), Failure> {
///     println!("welcome, {}, attempt {}", job.payload.user, job.attempt);
///     Ok(())
/// }
///
/// const MAIL: QueueName = QueueName::from_static("mail");
/// # let queue = polyqueue::connect_from_env(&[polyqueue_memory::PROVIDER]).await?;
/// queue.declare(&QueueSpec::new(MAIL)).await?;
/// queue.send(MAIL, &Welcome { user: "Ada".into() }).await?;
///
/// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
/// let worker = tokio::spawn(Worker::new(queue.clone()).on(welcome).run([MAIL], stopped));
/// # while queue.stats(&MAIL).await?.counters.acked == 0 { tokio::task::yield_now().await; }
/// drop(stop);
/// assert_eq!(worker.await??.acked, 1);
/// # Ok(()) }
/// ```
///
/// # What becomes of a message
/// | its handler | verdict |
/// |---|---|
/// | returns `Ok` | acknowledged |
/// | returns an error by `?`, panics, times out, aborts | tried again after the [policy](Worker::retry)'s wait; after the last attempt a dead letter |
/// | returns [`Failure::fatal`](crate::Failure::fatal), or a [`Permanent`](crate::Permanent) by `?` | a dead letter, `rejected` |
/// | returns [`Failure::Snooze`](crate::Failure::Snooze) | handed out again later, no attempt counted |
/// | is not there: no handler for this kind, and no [`on_others`](Worker::on_others) | as [`Unknown`] says: given back for somebody who knows it, for an hour |
/// | cannot be called: the payload does not decode | a dead letter, `undecodable` |
/// | loses the [lease](Worker::lease) | none: somebody else is handed it, or at its last attempt it dies; the handler's future is dropped |
/// | still runs at the [stop deadline](Worker::stop_deadline) | given back, no attempt counted; the handler's future is dropped |
///
/// A message with a [reply address](crate::Message::reply_to) that becomes a dead letter here is answered with its error.
///
/// Handlers run in tasks of tokio, one at a time in each. One that blocks its thread delays neither the heartbeats, nor other
/// handlers, nor the verdicts on them by more than a few milliseconds, as long as the runtime has another thread; it cannot be
/// dropped before it yields.
/// [`on_blocking`](Worker::on_blocking) gives it a thread of its own. A handler that returned `Ok` after its lease was
/// lost, and a heartbeat that woke too late, are warned of with the handler's kind.
pub struct Worker {
    queue: Arc<dyn Queue>,
    handlers: Handlers,
    unknown: UnknownKinds,
    hook: Option<Arc<dyn Hook>>,
    settings: Settings,
    fault: Option<Error>,
}

impl Worker {
    /// A worker without handlers: 16 at a time for each queue, leases of 30 s, no timeout, 4 attempts with waits of
    /// 1 s, 2 s and 4 s, 30 s to stop.
    pub fn new(queue: Arc<dyn Queue>) -> Self {
        Self {
            queue,
            handlers: Handlers::default(),
            unknown: UnknownKinds::default(),
            hook: None,
            settings: Settings::default(),
            fault: None,
        }
    }

    /// Gives the messages of kind `T::KIND` to `handler`. A second handler for a kind is refused by [`Worker::run`].
    #[must_use]
    pub fn on<T: Payload>(self, handler: impl Handler<T>) -> Self {
        self.on_with(handler, HandlerOptions::new())
    }

    /// The same with a retry policy, a timeout or a concurrency of this handler's own.
    ///
    /// ```
    /// # use polyqueue::*;
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Charge;
    /// # impl Payload for Charge { const KIND: &'static str = "charge"; }
    /// # async fn charge(_: Job<Charge>) -> Result<(), Failure> { Ok(()) }
    /// # fn worker(worker: Worker) -> Worker {
    /// worker.on_with(charge, HandlerOptions::new().concurrency(1)) // one charge at a time; other kinds do not wait for it
    /// # }
    /// ```
    #[must_use]
    pub fn on_with<T: Payload>(self, handler: impl Handler<T>, options: HandlerOptions) -> Self {
        self.handle(T::KIND, Typed::new(handler), options)
    }

    /// Gives the messages of kind `T::KIND` to a function that blocks its thread. It runs on one of tokio's threads for that, so
    /// that leases are extended and other handlers go on meanwhile, on a runtime of one thread as well.
    ///
    /// A timeout, a lost lease and the stop deadline end the wait for it, not the function itself: one that takes long
    /// asks [`Lease::is_over`] now and then. [`blocking()`] makes a handler of it for [`Worker::on_with`].
    ///
    /// ```
    /// # use polyqueue::*;
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Image;
    /// # impl Payload for Image { const KIND: &'static str = "image"; }
    /// # fn shrink(_: &Image) -> std::io::Result<()> { Ok(()) }
    /// # fn worker(worker: Worker) -> Worker {
    /// worker.on_blocking(|job: Job<Image>| Ok(shrink(&job.payload)?))
    /// # }
    /// ```
    #[must_use]
    pub fn on_blocking<T: Payload>(
        self,
        handler: impl Fn(Job<T>) -> Result<(), Failure> + Send + Sync + 'static,
    ) -> Self {
        self.on(blocking(handler))
    }

    /// Gives the requests of kind `T::KIND` to `responder`, and sends what it returns to the
    /// [reply address](crate::Message::reply_to) of each, before it is acknowledged. A [`Requester`](crate::Requester) awaits it there. A request
    /// without an address is handled all the same, and its answer dropped.
    #[must_use]
    pub fn on_request<T: Payload, R: Payload>(self, responder: impl Responder<T, R>) -> Self {
        self.on_request_with(responder, HandlerOptions::new())
    }

    /// The same with a retry policy, a timeout or a concurrency of this responder's own.
    #[must_use]
    pub fn on_request_with<T: Payload, R: Payload>(
        self,
        responder: impl Responder<T, R>,
        options: HandlerOptions,
    ) -> Self {
        let answering = Answering::new(self.queue.clone(), responder);
        self.handle(T::KIND, answering, options)
    }

    fn handle(
        mut self,
        kind: &'static str,
        handler: impl ErasedHandler + 'static,
        options: HandlerOptions,
    ) -> Self {
        let added = self.handlers.add(kind, handler, options);
        self.note(added);
        self
    }

    /// Gives the messages of all kinds that have no handler here to `handler`, as bytes. Without it they are treated as
    /// [`Worker::unknown`] says.
    ///
    /// ```
    /// # use polyqueue::*;
    /// # fn worker(worker: Worker) -> Worker {
    /// worker.on_others(|job| async move {
    ///     println!("{} bytes of kind {:?}", job.payload.len(), job.message.kind());
    ///     Ok(())
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn on_others<F, Fut>(self, handler: F) -> Self
    where
        F: Fn(Job<Bytes>) -> Fut + Handler<Bytes>,
    {
        self.on_others_with(handler, HandlerOptions::new())
    }

    /// The same for every form of a [`Handler`], and with a retry policy, a timeout or a concurrency of its own.
    #[must_use]
    pub fn on_others_with(mut self, handler: impl Handler<Bytes>, options: HandlerOptions) -> Self {
        let added = self.handlers.add_others(Others(Arc::new(handler)), options);
        self.note(added);
        self
    }

    /// What to do with a message of a kind that has no handler here; [`Unknown::Release`] unless set.
    #[must_use]
    pub fn unknown(mut self, unknown: Unknown) -> Self {
        self.unknown.choice = unknown;
        self
    }

    /// How old a message of such a kind must be before [`Unknown::Release`] makes it a dead letter; 1 hour unless set. Set it
    /// to more than the longest delay of a message where two services share a queue.
    #[must_use]
    pub fn unknown_for(mut self, age: Duration) -> Self {
        self.unknown.max_age = age;
        self
    }

    /// Calls `hook` for each message that becomes a dead letter by this worker's verdict, after the record can be read, and
    /// for each whose lease it loses at the last attempt: see [`Death::lease_lost`]. A process that dies in between may not
    /// call it. A second hook is refused by [`Worker::run`].
    #[must_use]
    pub fn on_dead_letter(mut self, hook: impl DeadLetterHook) -> Self {
        if self.hook.replace(Arc::new(hook)).is_some() {
            self.note(Err(Error::invalid("dead letter hook", "two given, allowed is one")));
        }
        self
    }

    /// How many handlers run at a time for each queue, at least 1; 16 unless set. Each queue has its own consumer, so that a
    /// full one never starves another.
    #[must_use]
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.settings.concurrency = handlers;
        self
    }

    /// How long a message is ours without a sign of life, 1 ms to 24 h; 30 s unless set. Leases are extended every third of
    /// this while the handler runs, by a thread of polyqueue's own, so it bounds how soon another takes over from a process that
    /// died.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// How long a handler may take; its future is then dropped, which counts as a failure. No bound unless set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// How many messages the consumer of each queue may hold, those in the hands of handlers counted. Unless set, the
    /// concurrency: then nothing waits here that no handler has, and priority is strict. More is faster, and up to as many
    /// more messages may be overtaken by less urgent ones. What waits here for a second without a handler is given back, its
    /// attempt not counted, and no more is fetched ahead until handlers end at once again. 0 asks the broker for each; 1 to
    /// below the concurrency is refused by [`Worker::run`].
    #[must_use]
    pub fn prefetch(mut self, messages: usize) -> Self {
        self.settings.prefetch = Some(messages);
        self
    }

    /// How often and when a failed message is tried again. A message's own maximum of attempts wins.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings.retry = policy;
        self
    }

    /// How long running handlers may take after the stop, before they are dropped and their messages given back; 30 s
    /// unless set.
    #[must_use]
    pub fn stop_deadline(mut self, deadline: Duration) -> Self {
        self.settings.stop_deadline = deadline;
        self
    }

    /// What to do with a payload of another major schema version than [`Payload::VERSION`]; [`Versions::Warn`] unless set.
    /// A message without a version is taken as it is.
    #[must_use]
    pub fn versions(mut self, versions: Versions) -> Self {
        self.settings.versions = versions;
        self
    }

    /// Where the worker's chance begins: how much [jitter](crate::Backoff::jitter) shortens each wait for a retry, and how long
    /// a broker that is away is left alone. One nobody foresees unless set. For tests: under tokio's paused clock, on a
    /// runtime of one thread, one seed is one history.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = Some(seed);
        self
    }

    /// How long leases are renewed while no thread of the application's runtime turns: then what a process holds that is stuck goes
    /// to others. 20 leases and at least a minute unless set; it is warned of at a third.
    #[must_use]
    pub fn stall_limit(mut self, limit: Duration) -> Self {
        self.settings.stall_limit = Some(limit);
        self
    }

    /// The name, for people, that dead letters give the consumer; at most 200 bytes; `polyqueue` unless set.
    #[must_use]
    pub fn consumer(mut self, name: impl Into<String>) -> Self {
        self.settings.consumer = name.into();
        self
    }

    /// Works on `queues` until `stop` completes, whatever its output, and then in order: no new hand-outs, running handlers
    /// finish or are dropped at the stop deadline, what was not finished is given back without counting an attempt. Ends
    /// 2 s after the stop deadline at the latest.
    ///
    /// A broker that is away is waited for, also at the start: then a stop ends it with the broker's error. The future owns all it needs and can be spawned; dropping
    /// it drops every handler, whose messages come back at the end of their leases.
    ///
    /// A queue that is deleted meanwhile does not end a worker that has others: it is warned of once and asked for again, up
    /// to every 5 s, and served when it was declared anew.
    ///
    /// # Errors
    /// Before anything is fetched: [`Error::Invalid`] for two handlers of one kind, no handler at all, no queue or one twice,
    /// or a setting out of its range; [`Error::NotFound`] for an unknown queue. Later, after an orderly stop: any error of
    /// the broker that does not pass by itself; [`Error::NotFound`] when all its queues are gone at the same time, which the broker is
    /// asked for each before, so at once when the only one is.
    pub fn run(
        self,
        queues: impl IntoIterator<Item = QueueName>,
        stop: impl Future + Send + 'static,
    ) -> impl Future<Output = Result<Report>> + Send + 'static {
        let queues = queues.into_iter().collect();
        match self.plan() {
            Ok(plan) => Either::Left(run(plan, queues, stop)),
            Err(fault) => Either::Right(ready(Err(fault))),
        }
    }

    /// The first fault is what [`Worker::run`] answers with.
    fn note(&mut self, said: Result<()>) {
        self.fault = self.fault.take().or(said.err());
    }

    fn plan(self) -> Result<Plan> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        Ok(Plan::new(self.queue, self.handlers, self.unknown, self.hook, self.settings))
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("kinds", &self.handlers.kinds())
            .field("concurrency", &self.settings.concurrency)
            .finish_non_exhaustive()
    }
}
