//! What a handler gets: a payload, and what is known about the message that brought it.

use std::sync::Arc;

use crate::{Message, QueueName};

use super::lease::Lease;

/// One hand-out of one message, as its handler sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Job<T> {
    /// The decoded payload; the bytes themselves in [`Worker::on_any`](crate::Worker::on_any).
    pub payload: T,
    /// 1 at the first hand-out, one more at each further one.
    pub attempt: u32,
    /// The queue that the message came from.
    pub queue: QueueName,
    /// The message: id, headers, priority and so on.
    pub message: Arc<Message>,
    /// How long the message is ours.
    pub lease: Lease,
}

impl<T> Job<T> {
    /// A first attempt at an empty message, for unit tests of handlers. Its lease lasts 24 hours.
    ///
    /// ```
    /// use polyqueue::{Bytes, Failure, Job, QueueName};
    ///
    /// async fn refuse_empty(job: Job<Bytes>) -> Result<(), Failure> {
    ///     if job.payload.is_empty() { Err(Failure::fatal("empty")) } else { Ok(()) }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let job = Job::of(QueueName::from_static("mail"), Bytes::from("hello"));
    /// assert!(refuse_empty(job).await.is_ok());
    /// # }
    /// ```
    pub fn of(queue: QueueName, payload: T) -> Self {
        let message = Arc::new(Message::new(""));
        Self { payload, attempt: 1, queue, message, lease: Lease::detached() }
    }

    /// The same hand-out with another payload.
    pub(super) fn carrying<U>(self, payload: U) -> Job<U> {
        Job { payload, attempt: self.attempt, queue: self.queue, message: self.message, lease: self.lease }
    }
}
