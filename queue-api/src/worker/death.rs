//! Deaths: what the worker tells about a message that it made a dead letter.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::task::{JoinError, JoinSet};

use crate::{DeadReason, Message, QueueName};

/// A message became a dead letter by this worker's verdict, and the record can be read already; or by the loss of its
/// [lease](Death::lease_lost) at the last attempt.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Death {
    /// The queue in which it died.
    pub queue: QueueName,
    /// The message, as it was handed out last.
    pub message: Arc<Message>,
    /// Why.
    pub reason: DeadReason,
    /// The error text that the verdict carried.
    pub error: String,
    /// Attempts since it was published or last redriven.
    pub attempts: u32,
    /// The lease was lost at the last attempt, so that no verdict took effect, perhaps not even that of a handler that
    /// returned `Ok`. The broker makes it a dead letter when it notices: the record may not be there yet, nor say the same
    /// error. What was purged, or deleted with its queue, is told of in the same way.
    pub lease_lost: bool,
}

/// What is called for each [`Death`]. Every `Fn(Death) -> impl Future<Output = ()> + Send` is one.
pub trait DeadLetterHook: Send + Sync + 'static {
    /// Does something about it. Runs in a task of its own: neither a panic nor slowness harms the worker, which waits for
    /// it only when it stops, at most until the stop deadline.
    fn call(&self, death: Death) -> impl Future<Output = ()> + Send;
}

impl<F, Fut> DeadLetterHook for F
where
    F: Fn(Death) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    fn call(&self, death: Death) -> impl Future<Output = ()> + Send {
        self(death)
    }
}

/// A hook whose type is hidden.
pub(super) trait Hook: Send + Sync {
    fn run(self: Arc<Self>, death: Death) -> BoxFuture<'static, ()>;
}

impl<H: DeadLetterHook> Hook for H {
    fn run(self: Arc<Self>, death: Death) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.call(death).await })
    }
}

/// Hooks that are running, and what else a death causes.
#[derive(Default)]
pub(super) struct Hooks(JoinSet<()>);

impl Hooks {
    pub(super) fn call(&mut self, hook: &Arc<dyn Hook>, death: Death) {
        let hook = hook.clone();
        self.spawn(async move { hook.run(death).await });
    }

    pub(super) fn spawn(&mut self, consequence: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(consequence);
    }

    /// Forgets those that are done.
    pub(super) fn reap(&mut self) {
        while let Some(ended) = self.0.try_join_next() {
            note(ended);
        }
    }

    pub(super) async fn finish(&mut self) {
        while let Some(ended) = self.0.join_next().await {
            note(ended);
        }
    }
}

fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(name: "worker.dead_letter_hook_failed", %error, "the dead letter hook failed");
    }
}
