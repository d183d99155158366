//! What all queues of a worker share, and how each is subscribed to.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{Consumer, Error, Queue, QueueName, Result, Subscription};

use super::death::Hook;
use super::execute::Executor;
use super::handlers::Handlers;
use super::retry_wait::retry_wait;
use super::route::Route;
use super::settings::Settings;
use super::unknown::UnknownKinds;

/// What all queues of a worker share.
pub(super) struct Plan {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) executor: Executor,
    pub(super) hook: Option<Arc<dyn Hook>>,
    pub(super) consumer: String,
    pub(super) concurrency: usize,
    pub(super) prefetch: usize,
    pub(super) lease: Duration,
    pub(super) stop_deadline: Duration,
    /// How long leases are renewed while the application's runtime stands still, where it is said.
    pub(super) stall_limit: Option<Duration>,
}

impl Plan {
    pub(super) fn new(
        queue: Arc<dyn Queue>,
        handlers: Handlers,
        unknown: UnknownKinds,
        hook: Option<Arc<dyn Hook>>,
        settings: Settings,
    ) -> Self {
        let executor = Executor {
            routes: handlers.routes(&settings.retry, settings.timeout),
            unknown,
            limits: queue.info().limits,
            jitter: Arc::new(settings.jitter()),
            versions: settings.versions,
            retry: settings.retry,
        };
        Self {
            queue,
            executor,
            hook,
            consumer: settings.consumer,
            concurrency: settings.concurrency,
            prefetch: settings.prefetch.unwrap_or(settings.concurrency),
            lease: settings.lease,
            stop_deadline: settings.stop_deadline,
            stall_limit: settings.stall_limit,
        }
    }

    pub(super) fn check(&self, queues: &[QueueName]) -> Result<()> {
        let twice = |name: &&QueueName| queues.iter().filter(|other| other == name).count() > 1;
        if queues.is_empty() {
            return Err(Error::invalid("queues", "none given, allowed are 1 or more"));
        }
        if let Some(name) = queues.iter().find(twice) {
            return Err(Error::invalid("queues", format!("{name} given twice, allowed is once")));
        }
        if self.executor.routes.all().next().is_none() {
            return Err(Error::invalid("handlers", "none given, allowed are 1 or more"));
        }
        if self.concurrency == 0 {
            return Err(Error::invalid("concurrency", "0 given, allowed are 1 or more"));
        }
        let slots = self.concurrency.saturating_mul(queues.len());
        if let Some(own) = self.executor.routes.all().filter_map(Route::concurrency).find(|&own| own > slots)
        {
            let allowed =
                format!("{own} given, allowed are 1 to {slots}: the worker's, for each of its queues");
            return Err(Error::invalid("concurrency of a handler", allowed));
        }
        if (1..self.concurrency).contains(&self.prefetch) {
            let allowed = format!("{} given, allowed are 0, and the concurrency or more", self.prefetch);
            return Err(Error::invalid("prefetch", allowed));
        }
        Ok(())
    }

    /// A consumer for each queue, or none at all.
    pub(super) async fn subscribe_all(
        &self,
        queues: Vec<QueueName>,
        stop: &CancellationToken,
    ) -> Result<Vec<(QueueName, Arc<dyn Consumer>)>> {
        let mut open: Vec<(QueueName, Arc<dyn Consumer>)> = Vec::new();
        for queue in queues {
            match self.subscribe(&queue, stop).await {
                Ok(consumer) => open.push((queue, consumer)),
                Err(error) => {
                    for (queue, consumer) in open {
                        if let Err(error) = consumer.close().await {
                            tracing::warn!(name: "worker.close_failed", %queue, %error, "a consumer could not be closed: what it holds comes back at the end of the leases");
                        }
                    }
                    return Err(error);
                }
            }
        }
        Ok(open)
    }

    /// Tries again while the broker is away, until `stop`.
    pub(super) async fn subscribe(
        &self,
        queue: &QueueName,
        stop: &CancellationToken,
    ) -> Result<Arc<dyn Consumer>> {
        let subscription = Subscription::new(queue.clone())
            .consumer(&*self.consumer)
            .prefetch(self.prefetch)
            .lease(self.lease)
            .max_attempts(self.executor.most_attempts());
        let mut failures = 0;
        loop {
            match self.queue.subscribe(&subscription).await {
                Ok(consumer) => return Ok(consumer.into()),
                Err(error) if error.is_transient() && !stop.is_cancelled() => {
                    failures += 1;
                    tracing::warn!(name: "worker.subscribe_failed", %queue, %error, "could not subscribe, and tries again");
                    tokio::select! {
                        () = sleep(retry_wait(&self.executor.jitter, failures)) => {}
                        () = stop.cancelled() => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}
