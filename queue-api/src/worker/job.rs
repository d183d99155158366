//! What a handler gets: a payload, and what is known about the message that brought it.

use std::sync::Arc;

use crate::{DEFAULT_MAX_ATTEMPTS, Message, QueueName};

use super::lease::Lease;

/// One hand-out of one message, as its handler sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Job<T> {
    /// The decoded payload; the bytes themselves in [`Worker::on_others`](crate::Worker::on_others).
    pub payload: T,
    /// 1 at the first hand-out, one more at each further one.
    pub attempt: u32,
    /// After how many attempts the message dies: its own maximum, or else its handler's, or a greater one under which another
    /// worker has tried it. `attempt == max_attempts` is the last.
    pub max_attempts: u32,
    /// The queue that the message came from.
    pub queue: QueueName,
    /// The message: id, headers, priority and so on.
    pub message: Arc<Message>,
    /// How long the message is ours.
    pub lease: Lease,
}

impl<T> Job<T> {
    /// A first attempt of 4 at an empty message, for unit tests of handlers. Its lease lasts 24 hours.
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
        let (message, max_attempts) = (Arc::new(Message::new("")), DEFAULT_MAX_ATTEMPTS.get());
        Self { payload, attempt: 1, max_attempts, queue, message, lease: Lease::detached() }
    }

    /// The same hand-out with another payload.
    pub(super) fn carrying<U>(self, payload: U) -> Job<U> {
        let Self { payload: _, attempt, max_attempts, queue, message, lease } = self;
        Job { payload, attempt, max_attempts, queue, message, lease }
    }
}
