//! Ask over a queue, await the answer.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use chrono::Utc;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use crate::backend::Jitter;
use crate::later::later;
use crate::worker::retry_wait;
use crate::{
    Certainty, Destination, Error, Inbox, IntoDestination, Message, Payload, Queue, ReplyAddress, Result,
};

/// The [kind](Message::kind) of a reply which says that the responder failed; its payload is the error text.
pub const REMOTE_ERROR_KIND: &str = "polyqueue.error";

/// How long one call waits for replies. Long: an idle requester costs next to nothing.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// Sends requests and awaits their replies, through one inbox. Cheap to share; dropping it leaves nothing at the broker.
///
/// The answer is what the other side's [`Worker::on_request`](crate::Worker::on_request) returns, or any message to the request's
/// [reply address](Message::reply_to) with its [correlation id](Message::correlation_id). A request to a
/// topic reaches a responder in every group that is bound.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use polyqueue::{Failure, Job, Payload, QueueName, QueueSpec, Requester, Worker};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Double(u32);
/// impl Payload for Double { const KIND: &'static str = "double"; }
///
/// #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
/// struct Doubled(u32);
/// impl Payload for Doubled { const KIND: &'static str = "doubled"; }
///
/// async fn double(job: Job<Double>) -> Result<Doubled, Failure> { Ok(Doubled(2 * job.payload.0)) }
///
/// const BRAIN: QueueName = QueueName::from_static("brain");
/// # let queue = polyqueue::connect_from_env(&[polyqueue_memory::PROVIDER]).await?;
/// queue.declare(&QueueSpec::new(BRAIN)).await?;
/// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
/// let worker = tokio::spawn(Worker::new(queue.clone()).on_request(double).run([BRAIN], stopped));
///
/// let requester = Requester::open(queue.clone()).await?;
/// let answer: Doubled = requester.request(BRAIN, &Double(21), Duration::from_secs(5)).await?;
/// assert_eq!(answer, Doubled(42));
/// # drop(stop);
/// # worker.await??;
/// # Ok(()) }
/// ```
pub struct Requester {
    queue: Arc<dyn Queue>,
    address: ReplyAddress,
    pending: Arc<PendingReplies>,
    reading: JoinHandle<()>,
}

/// Who waits for what.
#[derive(Default)]
struct PendingReplies {
    waiting: Mutex<HashMap<String, UnboundedSender<Message>>>,
    late: AtomicU64,
    ended: Mutex<Option<Error>>,
}

impl Requester {
    /// Opens an inbox on this handle.
    ///
    /// # Errors
    /// As [`Queue::inbox`].
    pub async fn open(queue: Arc<dyn Queue>) -> Result<Self> {
        let inbox = queue.inbox().await?;
        let (address, pending) = (inbox.address().clone(), Arc::new(PendingReplies::default()));
        let reading = tokio::spawn(read(inbox, pending.clone()));
        Ok(Self { queue, address, pending, reading })
    }

    /// Sends a typed request and awaits its reply.
    ///
    /// # Errors
    /// [`Error::Timeout`] when none came in time, [`Error::Remote`] when the responder failed for good, [`Error::Codec`]
    /// when the reply is no `R`; else as [`Queue::publish`].
    pub async fn request<T: Payload, R: Payload>(
        &self,
        to: impl IntoDestination,
        payload: &T,
        timeout: Duration,
    ) -> Result<R> {
        self.ask(to, Message::of(payload)?, timeout).await?.decode()
    }

    /// Sends a request of your own and awaits its reply. The correlation id and the reply address are set here; without a time
    /// to live it gets one, for after the timeout nobody wants its answer.
    ///
    /// # Errors
    /// As [`Requester::request`].
    pub async fn ask(
        &self,
        to: impl IntoDestination,
        message: Message,
        timeout: Duration,
    ) -> Result<Message> {
        let to = to.into();
        let mut replies = self.ask_many(to.clone(), message, 1, timeout).await?;
        replies.pop().unwrap_or_else(|| Err(late(&to, timeout)))
    }

    /// Sends a typed request to many, a topic above all, and gathers `replies` of their replies, or those that came in time.
    ///
    /// # Errors
    /// As [`Queue::publish`]. What single responders say, their errors included, is inside.
    pub async fn gather<T: Payload, R: Payload>(
        &self,
        to: impl IntoDestination,
        payload: &T,
        replies: usize,
        timeout: Duration,
    ) -> Result<Vec<Result<R>>> {
        let came = self.ask_many(to, Message::of(payload)?, replies, timeout).await?;
        Ok(came.into_iter().map(|reply| reply?.decode()).collect())
    }

    /// Sends a request of your own to many, as [`Requester::gather`].
    ///
    /// # Errors
    /// As [`Requester::gather`].
    pub async fn ask_many(
        &self,
        to: impl IntoDestination,
        message: Message,
        replies: usize,
        timeout: Duration,
    ) -> Result<Vec<Result<Message>>> {
        let (to, until) = (to.into(), later(Instant::now(), timeout));
        let (id, inbox) = self.pending.await_replies()?;
        let mut asker = Asker { pending: &self.pending, id: &id, inbox };
        let message = self.addressed(message, &id, timeout);
        let mut publishing = Box::pin(publish(self.queue.clone(), to.clone(), message));
        let (mut came, mut published) = (Vec::new(), false);
        // A reply proves that its request was stored: whoever has enough of them need not hear it from the broker.
        while came.len() < replies || (replies == 0 && !published) {
            tokio::select! {
                biased;
                reply = asker.inbox.recv() => came.push(opened(reply.ok_or_else(|| self.pending.why_ended())?)),
                answer = &mut publishing, if !published => {
                    answer?;
                    published = true;
                }
                () = sleep_until(until) => {
                    if !published && came.is_empty() {
                        return Err(late(&to, timeout));
                    }
                    break;
                }
            }
        }
        if !published {
            // To its end, for only then is it counted.
            tokio::spawn(publishing);
        }
        came.truncate(replies);
        Ok(came)
    }

    /// How many replies came that nobody waited for: late, twice, or unknown. They are dropped.
    pub fn late_replies(&self) -> u64 {
        self.pending.late.load(Relaxed)
    }

    fn addressed(&self, message: Message, id: &str, timeout: Duration) -> Message {
        let message = message.with_reply_to(self.address.clone()).with_correlation_id(id);
        let lifetime = timeout.max(Duration::from_millis(1));
        match message.ttl() {
            None if lifetime > message.delay_from(Utc::now())
                && lifetime <= self.queue.info().limits.delay =>
            {
                message.with_ttl(lifetime)
            }
            _ => message,
        }
    }
}

impl Drop for Requester {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl fmt::Debug for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requester").field("address", &self.address).finish_non_exhaustive()
    }
}

impl PendingReplies {
    /// A correlation id, and where its replies come in.
    fn await_replies(&self) -> Result<(String, UnboundedReceiver<Message>)> {
        let (id, (to, from)) = (Uuid::new_v4().simple().to_string(), unbounded_channel());
        let mut waiting = self.waiting.lock();
        if let Some(error) = self.ended.lock().clone() {
            return Err(error);
        }
        waiting.insert(id.clone(), to);
        Ok((id, from))
    }

    fn deliver(&self, reply: Message) {
        let waiting = self.waiting.lock();
        let asker = reply.correlation_id().and_then(|id| waiting.get(id)).cloned();
        if asker.is_none_or(|asker| asker.send(reply).is_err()) {
            self.late.fetch_add(1, Relaxed);
            tracing::debug!(name: "requester.late_reply", "nobody waits for it any more");
        }
    }

    /// No reply will ever come: wakes all who wait for one.
    fn end(&self, error: Error) {
        let mut waiting = self.waiting.lock();
        *self.ended.lock() = Some(error);
        waiting.clear();
    }

    fn why_ended(&self) -> Error {
        self.ended.lock().clone().unwrap_or(Error::Closed)
    }
}

/// One pending request. It leaves when it ends, however it ends; what came beyond the replies that it took was too much.
struct Asker<'a> {
    pending: &'a PendingReplies,
    id: &'a str,
    inbox: UnboundedReceiver<Message>,
}

impl Drop for Asker<'_> {
    fn drop(&mut self) {
        self.pending.waiting.lock().remove(self.id);
        while self.inbox.try_recv().is_ok() {
            self.pending.late.fetch_add(1, Relaxed);
        }
    }
}

async fn publish(queue: Arc<dyn Queue>, to: Destination, request: Message) -> Result<()> {
    queue.publish(&to, vec![request]).await?.into_iter().try_for_each(|answer| answer.map(drop))
}

async fn read(inbox: Box<dyn Inbox>, pending: Arc<PendingReplies>) {
    let jitter = Jitter::default();
    let mut failures = 0;
    loop {
        match inbox.receive(PATIENCE).await {
            Ok(replies) => {
                failures = 0;
                replies.into_iter().for_each(|reply| pending.deliver(reply));
            }
            Err(error) if error.is_transient() => {
                failures += 1;
                tracing::warn!(name: "requester.receive_failed", %error, "replies could not be received, and are tried again");
                sleep(retry_wait(&jitter, failures)).await;
            }
            Err(error) => return pending.end(error),
        }
    }
}

fn late(to: &Destination, timeout: Duration) -> Error {
    Error::timeout(format!("a request to {to}"), timeout, Certainty::Unknown)
}

fn opened(reply: Message) -> Result<Message> {
    if reply.kind() == REMOTE_ERROR_KIND {
        return Err(Error::Remote(String::from_utf8_lossy(reply.payload()).into_owned()));
    }
    Ok(reply)
}
