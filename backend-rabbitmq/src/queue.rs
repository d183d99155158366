//! The handle: both halves of the contract.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Admin, Certainty, ConnectOptions, Consumer, DeadFilter, DeadId, DeadPage, Destination, Error, Health,
    Inbox, Info, Message, MessageId, Page, Pattern, Published, Purge, Queue, QueueName, QueueSpec,
    QueueStats, Reschedule, Result, Subscription, async_trait,
};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::address::NAME;
use crate::connection::handle::Core;
use crate::connection::publisher::{Confirm, PublishRequest, lost};
use crate::consume::consumer::RabbitConsumer;
use crate::inbox::reader::RabbitInbox;
use crate::publish::backpressure;

/// Acks of a classic queue that are younger may be undone by a crash of the broker. 250 ms at rest; an ack of 730 ms was
/// undone on an overloaded machine.
const ACK_WINDOW: Duration = Duration::from_secs(1);
/// Health answers within a second.
const HEALTH: Duration = Duration::from_millis(900);

/// A handle to a RabbitMQ broker.
pub(crate) struct RabbitQueue {
    core: Arc<Core>,
}

impl RabbitQueue {
    pub(crate) async fn connect(options: ConnectOptions) -> Result<Self> {
        Ok(Self { core: Core::connect(options).await? })
    }

    /// The requests of a batch.
    async fn requests(&self, queue: &QueueName, batch: &[Message]) -> Result<Vec<PublishRequest>> {
        let core = &self.core;
        let delays: Vec<Duration> =
            batch.iter().map(Message::delay).filter(|delay| !delay.is_zero()).collect();
        let mut address = Arc::from("");
        if !delays.is_empty() {
            address = core.address(queue).await?;
            core.ensure_delay_queues(&delays).await?;
        }
        let now = core.now();
        let mut requests = Vec::with_capacity(batch.len());
        for message in batch {
            let properties = core.properties(message, now);
            let body = message.payload().clone();
            requests.push(core.request(queue, &address, message.delay(), properties, body).await?);
        }
        Ok(requests)
    }

    async fn dispatch(&self, to: &Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        let (core, by) = (&self.core, self.core.until());
        match to {
            Destination::Queue(queue) => {
                match core.in_time("publish", by, core.careful(queue, &batch)).await? {
                    Some(entry) => core.publish_copies(to, &[entry], &batch, by).await,
                    None => self.publish_to(queue, batch, by).await,
                }
            }
            Destination::Topic(key) => core.publish_to_topic(key, &batch, by).await,
            Destination::Reply(address) => core.publish_replies(address, &batch, by).await,
        }
    }

    /// Publishes to a queue that was there when it was asked for on this connection.
    async fn publish_to(
        &self,
        queue: &QueueName,
        batch: Vec<Message>,
        by: Instant,
    ) -> Result<Vec<Result<Published>>> {
        let core = &self.core;
        let late = |certainty| Error::timeout("publish", core.deadline, certainty);
        let prepare =
            async { Ok::<_, Error>((self.requests(queue, &batch).await?, core.publisher().await?)) };
        let (requests, publisher) =
            timeout_at(by, prepare).await.unwrap_or_else(|_| Err(late(Certainty::Definite)))?;
        core.check_open()?;
        let answers: Vec<_> = requests.into_iter().map(|request| publisher.publish(request)).collect();
        let mut too_late = pin!(sleep_until(by));
        let mut results = Vec::with_capacity(batch.len());
        let mut stored = 0;
        for (answer, message) in answers.into_iter().zip(batch) {
            let answer = tokio::select! {
                biased;
                answer = answer => answer.unwrap_or_else(|_| Err(lost())),
                () = &mut too_late => Err(late(Certainty::Unknown)),
            };
            results.push(match answer {
                Ok(Confirm::Stored) => {
                    stored += 1;
                    Ok(Published::stored(message.id().clone()))
                }
                Ok(Confirm::Unroutable) => Err(Error::not_found(queue.clone())),
                Err(error) => Err(error),
            });
        }
        core.meter.of(queue).published(stored);
        if results.iter().any(|result| matches!(result, Err(Error::NotFound(_)))) {
            publisher.forget(&core.names.ready(queue));
        }
        if results.iter().all(|result| matches!(result, Err(Error::NotFound(_)))) {
            return Err(Error::not_found(queue.clone()));
        }
        Ok(results)
    }
}

#[async_trait]
impl Queue for RabbitQueue {
    fn info(&self) -> Info {
        Info::new(NAME).durable_and_shared().with_ack_window(ACK_WINDOW)
    }

    async fn declare(&self, spec: &QueueSpec) -> Result<()> {
        self.core.limits.check_spec(spec)?;
        backpressure::check(spec)?;
        self.core.bounded("declare", self.core.declare(spec)).await
    }

    async fn publish(&self, to: &Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>> {
        self.core.check_open()?;
        self.core.limits.check(to, &batch)?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let published = self.dispatch(to, batch).await;
        if self.core.check_open().is_ok() {
            return published;
        }
        // What ended in vain because the handle was closed says so.
        let closed = |error: Error| match error.certainty() {
            Certainty::Definite => Error::Closed,
            Certainty::Unknown => error,
        };
        let results = published.map_err(closed)?;
        Ok(results.into_iter().map(|result| result.map_err(closed)).collect())
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>> {
        self.core.check_open()?;
        self.core.limits.check_subscription(subscription)?;
        let begin = RabbitConsumer::begin(self.core.clone(), subscription.clone());
        Ok(Box::new(self.core.bounded("subscribe", begin).await?))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.core.check_open()?;
        let opened = RabbitInbox::open(self.core.clone());
        Ok(Box::new(self.core.bounded("inbox", opened).await?))
    }

    async fn close(&self) -> Result<()> {
        self.core.close().await;
        Ok(())
    }
}

#[async_trait]
impl Admin for RabbitQueue {
    async fn queues(&self) -> Result<Vec<QueueSpec>> {
        let core = &self.core;
        let read = async {
            core.up_to_date().await?;
            Ok(core.catalogue.queues())
        };
        core.bounded("queues", read).await
    }

    async fn unbind(&self, queue: &QueueName, pattern: &Pattern) -> Result<()> {
        self.core.bounded("unbind", self.core.unbind(queue, pattern)).await
    }

    async fn reschedule(&self, _: &QueueName, _: &MessageId, to: Reschedule) -> Result<bool> {
        self.core.check_open()?;
        self.core.limits.check_reschedule(to)?;
        let what = "rescheduling: a delayed message cannot be found by its id; memory and redis can";
        Err(Error::unsupported(NAME, what))
    }

    async fn delete(&self, queue: &QueueName) -> Result<()> {
        self.core.bounded("delete", self.core.delete(queue)).await
    }

    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        let core = &self.core;
        let counts = async {
            core.retain(&core.entry(queue).await?).await?;
            let ready = core.count(queue, core.names.ready(queue));
            let dead = core.count(queue, core.names.dead(queue));
            // Both to their end: the client must not meet a channel's refusal after it was dropped.
            let (ready, dead) = futures_util::future::join(ready, dead).await;
            Ok((ready?, dead?))
        };
        let (ready, dead) = core.bounded("stats", counts).await?;
        let counters = core.meter.of(queue).snapshot();
        Ok(QueueStats { ready, dead, counters, ..QueueStats::default() })
    }

    async fn purge(&self, queue: &QueueName, what: Purge) -> Result<u64> {
        self.core.bounded("purge", self.core.purge(queue, what)).await
    }

    async fn dead_letters(&self, queue: &QueueName, filter: &DeadFilter, page: Page) -> Result<DeadPage> {
        page.check()?;
        self.core.bounded("dead_letters", self.core.dead_letters(queue, filter, page)).await
    }

    async fn redrive(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        self.core.bounded("redrive", self.core.redrive(queue, ids)).await
    }

    async fn discard(&self, queue: &QueueName, ids: &[DeadId]) -> Result<Vec<bool>> {
        self.core.bounded("discard", self.core.discard(queue, ids)).await
    }

    async fn health(&self) -> Health {
        let by = Instant::now() + HEALTH;
        match timeout(HEALTH, self.core.probe(by)).await {
            Ok(Ok(())) => match self.core.stranded() {
                0 => Health::good(NAME),
                n => Health {
                    detail: format!(
                        "{n} delayed messages lie in polyqueue.unrouted: nobody knows their queue"
                    ),
                    ..Health::good(NAME)
                },
            },
            Ok(Err(error)) => Health::bad(NAME, error.to_string()),
            Err(_) => Health::bad(NAME, format!("{}: no answer within a second", self.core.address)),
        }
    }
}

impl fmt::Debug for RabbitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitQueue").field("address", &self.core.address).finish_non_exhaustive()
    }
}
