//! The messaging half of the contract: all that an application needs.
//!
//! No method here has a default body, so that no wrapper can forget one. Conveniences stand above, in
//! [`QueueExt`](crate::QueueExt) and [`Worker`](crate::Worker), where no backend can get them wrong.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::{
    Admin, Delivery, Destination, Events, Extended, Health, Inbox, Info, Message, MessageId, QueueName,
    QueueSpec, Receipt, Reschedule, Result, Settled, Subscription, Verdict,
};

/// A handle to a broker.
///
/// Every call ends by its deadline ([`ConnectOptions::deadline`](crate::ConnectOptions), 10 s unless set; `receive`: its
/// wait + that), whatever the broker does. An open handle survives restarts of its broker: it reconnects by itself.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> polyqueue::Result<()> {
/// use polyqueue::{Message, Queue, QueueName, QueueSpec};
///
/// const MAIL: QueueName = QueueName::from_static("mail");
/// # let queue = polyqueue_memory::MemoryQueue::new();
/// queue.declare(&QueueSpec::new(MAIL)).await?;
/// let answers = queue.publish(&MAIL.into(), vec![Message::new("hello"), Message::new("world")]).await?;
/// for answer in answers {
///     println!("{} is stored", answer?.id); // each message has its own answer
/// }
/// queue.close().await?;
/// assert!(queue.publish(&MAIL.into(), vec![Message::new("late")]).await.is_err());
/// # Ok(()) }
/// ```
#[async_trait]
pub trait Queue: Admin + fmt::Debug + Send + Sync + 'static {
    /// What this backend is and can.
    fn info(&self) -> Info;

    /// Makes a queue, and binds it; does nothing where it exists as described. Takes effect before it returns: a message that
    /// is published to a matching topic afterwards reaches it.
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) names what differs from the queue that is there, or is outside its limits: bindings
    /// may be added, nothing else may change. [`Unsupported`](crate::Error::Unsupported) for an option that this broker cannot honour.
    async fn declare(&self, spec: &QueueSpec) -> Result<()>;

    /// Stores messages, durably for every `Ok`, answering in input order; messages of equal priority keep that order.
    ///
    /// A backend never repeats a publish by itself: an error whose [certainty](crate::Error::certainty) is `Unknown` is the
    /// caller's to decide about. Dropping the call is such an error. An empty batch is Ok and sends nothing.
    ///
    /// # Errors
    /// The outer `Err` means that nothing was stored: [`Invalid`](crate::Error::Invalid) names the field and the position,
    /// [`NotFound`](crate::Error::NotFound) the queue, the topic to which none is bound, or the inbox that is gone. Inner ones are
    /// of one message each: [`Full`](crate::Error::Full) for one that a queue has no room for, and of a message to several
    /// queues an error is definite only when it reached none.
    async fn publish(&self, to: &Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>>;

    /// Changes when a delayed message, or one that waits for its retry, becomes ready. `true` = done; `false` = none with this
    /// id waits in this queue.
    ///
    /// # Errors
    /// [`Unsupported`](crate::Error::Unsupported) where a delayed message cannot be found by its id.
    async fn reschedule(&self, queue: &QueueName, id: &MessageId, to: Reschedule) -> Result<bool>;

    /// Begins to read a queue.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound) for an unknown queue, [`Invalid`](crate::Error::Invalid) for a lease outside
    /// its limits.
    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>>;

    /// Opens an inbox for replies. It ends with the handle, or when it is dropped.
    async fn inbox(&self) -> Result<Box<dyn Inbox>>;

    /// Whether the broker can be reached now. Answers within a second and never fails: it says.
    async fn health(&self) -> Health;

    /// What happens from now on to this handle without anybody asking: connections lost and restored, leases lost, messages that
    /// died by themselves. Readers are independent of each other; who reads too slowly is told how many he missed.
    fn events(&self) -> Events;

    /// A child handle: the same broker over the same connections, in the namespace given. It takes the place of this handle's,
    /// as in [`ConnectOptions::namespace`](crate::ConnectOptions::namespace), and is not appended to it: a child in `red` and
    /// a handle that was connected in `red` see the same queues. Nothing is sent; open one for each tenant, or each time.
    ///
    /// What closes this handle closes its children, and theirs. A child that is closed closes only itself and its children:
    /// this handle and the other children go on. It counts for itself.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> polyqueue::Result<()> {
    /// use polyqueue::{Message, Queue, QueueExt, QueueName, QueueSpec};
    ///
    /// const MAIL: QueueName = QueueName::from_static("mail");
    /// # let queue = polyqueue_memory::MemoryQueue::new();
    /// let red = queue.namespace("tenant-red")?;
    /// red.declare(&QueueSpec::new(MAIL)).await?;
    /// red.publish_one(MAIL, Message::new("for red only")).await?;
    /// assert!(queue.publish_one(MAIL, Message::new("for nobody")).await.is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) for a name that is not 1 to 48 of `a-z`, `0-9`, `_` and `-`.
    fn namespace(&self, namespace: &str) -> Result<Arc<dyn Queue>>;

    /// Ends this handle. Idempotent. Afterwards every call on it, its consumers and its inboxes answers
    /// [`Closed`](crate::Error::Closed) at once, except `info`, `health`, `events` and `close`; blocked receives end, publishes that are
    /// under way end truthfully. What its consumers hold comes back at the end of its lease at the latest.
    async fn close(&self) -> Result<()>;
}

/// Reads one queue. Takes `&self`: one task fetches while many settle.
///
/// A [`Worker`](crate::Worker) does all this for handlers; by hand it is:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> polyqueue::Result<()> {
/// use std::time::Duration;
/// use polyqueue::{Consumer, Queue, Settled, Subscription, Verdict};
/// # use polyqueue::*;
///
/// # const MAIL: QueueName = QueueName::from_static("mail");
/// # let queue = polyqueue_memory::MemoryQueue::new();
/// # queue.declare(&QueueSpec::new(MAIL)).await?;
/// # queue.publish_one(MAIL, Message::new("hello")).await?;
/// let consumer = queue.subscribe(&Subscription::new(MAIL)).await?;
/// for delivery in consumer.receive(10, Duration::from_secs(1)).await? {
///     println!("{:?}, attempt {}", delivery.message.payload(), delivery.attempt);
///     let answers = consumer.settle(&[(delivery.receipt, Verdict::Ack)]).await?;
///     assert!(matches!(answers[0], Ok(Settled::Applied)));
/// }
/// consumer.close().await?;
/// # Ok(()) }
/// ```
#[async_trait]
pub trait Consumer: fmt::Debug + Send + Sync {
    /// Up to `max` messages, highest priority first; returns as soon as it has one, empty after `wait`. `wait = 0`: what is
    /// ready now. `max = 0`: empty, at once.
    ///
    /// Several calls may be pending: the oldest is served first. Await it to its end: a dropped call may hold messages
    /// until their lease ends. One unreadable message becomes a dead letter, it does not fail the call.
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>>;

    /// Applies verdicts, answering each in input order. A second verdict for a receipt has no effect. After an error whose
    /// certainty is `Unknown` a verdict may be repeated.
    async fn settle(&self, verdicts: &[(Receipt, Verdict)]) -> Result<Vec<Result<Settled>>>;

    /// A new full lease, from now, for each.
    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Result<Extended>>>;

    /// Ends pending receives with what they have and releases the local buffer, attempts unburned; later receives are
    /// empty. Verdicts and extensions of what was handed out still work until the consumer is dropped.
    /// Dropped without it: what it holds comes back at the end of the lease at the latest.
    async fn close(&self) -> Result<()>;
}

/// The answer to one publish.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The message's id.
    pub id: MessageId,
    /// The message that has its dedup key, when nothing was stored because every queue that it reached had the key.
    pub duplicate_of: Option<MessageId>,
}

impl Published {
    /// It was stored.
    pub fn stored(id: MessageId) -> Self {
        Self { id, duplicate_of: None }
    }

    /// Nothing was stored: `first` has its dedup key.
    pub fn duplicate(id: MessageId, first: MessageId) -> Self {
        Self { id, duplicate_of: Some(first) }
    }
}
