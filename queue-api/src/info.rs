//! What a backend says of itself.

use std::time::Duration;

use crate::Limits;

/// What a backend says of itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Info {
    /// Its name: `memory`, `redis`, `rabbitmq`, or a third party's.
    pub provider: &'static str,
    /// Whether messages survive the end of the broker's process.
    pub durable: bool,
    /// Whether another process can join the same queues.
    pub shared: bool,
    /// Acks younger than this may be undone by a crash of the broker.
    pub ack_window: Duration,
    /// Whether a retry, a release, a death and the end of a delay are one step each at the broker. Where they are not (RabbitMQ), a fault
    /// in the middle of one leaves two copies, and each comes to its own end: a message that was acked may come once more.
    pub atomic_moves: bool,
    /// The largest values that it takes.
    pub limits: Limits,
}

impl Info {
    /// A backend that keeps everything in its process, with the usual limits.
    pub fn new(provider: &'static str) -> Self {
        Self {
            provider,
            durable: false,
            shared: false,
            ack_window: Duration::ZERO,
            atomic_moves: true,
            limits: Limits::default(),
        }
    }

    /// The same for a broker outside the process: messages survive, other processes can join.
    #[must_use]
    pub fn durable_and_shared(mut self) -> Self {
        self.durable = true;
        self.shared = true;
        self
    }

    /// The same with an [`Info::ack_window`].
    #[must_use]
    pub fn with_ack_window(mut self, window: Duration) -> Self {
        self.ack_window = window;
        self
    }

    /// The same where [`Info::atomic_moves`] does not hold.
    #[must_use]
    pub fn without_atomic_moves(mut self) -> Self {
        self.atomic_moves = false;
        self
    }
}
