//! How a consumer reads a queue.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::QueueName;

/// How a consumer reads a queue.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Subscription {
    /// The queue to read.
    pub queue: QueueName,
    /// A name for people: it stands in dead letters. Two consumers may share one. At most 200 bytes.
    pub consumer: String,
    /// How many unsettled messages the consumer may hold, those in hand counted. 0: nothing is held between calls of
    /// `receive`, priority is strict. `n`: as strict as long as a `receive` is pending whenever there is room.
    pub prefetch: usize,
    /// How long a message is ours before it goes back to the queue; 1 ms to 24 h.
    pub lease: Duration,
    /// After how many attempts a message dies; a message's own maximum wins.
    pub max_attempts: NonZeroU32,
}

impl Subscription {
    /// Strict priority, a lease of 30 seconds, 4 attempts.
    pub fn new(queue: QueueName) -> Self {
        Self {
            queue,
            consumer: "polyqueue".into(),
            prefetch: 0,
            lease: Duration::from_secs(30),
            max_attempts: DEFAULT_MAX_ATTEMPTS,
        }
    }

    /// The same with a name for people.
    #[must_use]
    pub fn consumer(mut self, name: impl Into<String>) -> Self {
        self.consumer = name.into();
        self
    }

    /// The same with a local buffer; see [`Subscription::prefetch`].
    #[must_use]
    pub fn prefetch(mut self, messages: usize) -> Self {
        self.prefetch = messages;
        self
    }

    /// The same with another lease.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// The same with another maximum of attempts.
    #[must_use]
    pub fn max_attempts(mut self, max: NonZeroU32) -> Self {
        self.max_attempts = max;
        self
    }
}

/// One attempt and three retries.
pub const DEFAULT_MAX_ATTEMPTS: NonZeroU32 = NonZeroU32::new(4).unwrap();
