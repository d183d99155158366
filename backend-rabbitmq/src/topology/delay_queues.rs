//! The queues in which delayed messages wait: made when they are needed, once in a virtual host's life.

use crate::topology::state::Topology;
use std::sync::Arc;
use std::time::Duration;

use crate::connection::publisher::{Publisher, lost};
use crate::connection::request::PublishRequest;
use crate::topology::unroutable;
use crate::wire::delay::{
    DUE, DelayQueue, LOW_LEVELS, UNROUTABLE, below, delay_path, exchange, high_steps, pattern, wait_ms,
};
use crate::wire::republish;
use lapin::options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use polyqueue::{QueueName, Result};

/// What a connection remembers when it has seen the low levels of the delay queues.
const LOW: &str = "cascade";

use crate::connection::fault::is_missing;
use crate::connection::link::Session;

/// A quorum queue on RabbitMQ 3.10 survives a crash from this age on.
const SETTLING: Duration = Duration::from_secs(1);

/// Exists only when all low levels do.
const LOW_COMPLETE: &str = "polyqueue.delay.complete";

/// Makes the low levels and what lies at their end, once in a virtual host's life; returns when they survive a crash of the
/// broker.
pub(crate) async fn ensure_low(session: &Session) -> Result<()> {
    if is_complete(session).await? {
        return Ok(());
    }
    let ground = session.channel().await?;
    declare_end(&ground).await.map_err(|e| session.fault(&e))?;
    declare_levels(&ground, 0..LOW_LEVELS).await.map_err(|e| session.fault(&e))?;
    let each = (0..LOW_LEVELS).map(|level| async move {
        let channel = session.channel().await?;
        let digits = (1..=9).map(|digit| declare_waiting(&channel, DelayQueue { level, digit }));
        futures_util::future::try_join_all(digits).await.map_err(|e| session.fault(&e))
    });
    futures_util::future::try_join_all(each).await?;
    tokio::time::sleep(SETTLING).await;
    declare_exchange(&ground, LOW_COMPLETE, ExchangeKind::Fanout, FieldTable::default())
        .await
        .map_err(|e| session.fault(&e))?;
    tracing::info!(name: "rabbitmq.cascade_declared", "declared the queues that delay messages");
    Ok(())
}

/// Makes the waiting queues of these steps above the low levels, and the way down from there.
pub(crate) async fn ensure_high(session: &Session, steps: &[DelayQueue]) -> Result<()> {
    let Some(top) = steps.iter().map(|step| step.level).max() else { return Ok(()) };
    let ground = session.channel().await?;
    declare_levels(&ground, LOW_LEVELS..top + 1).await.map_err(|e| session.fault(&e))?;
    let each = steps.iter().map(|step| async move {
        let fresh = !has_queue(session, &step.queue()).await?;
        let channel = session.channel().await?;
        declare_waiting(&channel, *step).await.map_err(|e| session.fault(&e))?;
        Ok::<bool, polyqueue::Error>(fresh)
    });
    if futures_util::future::try_join_all(each).await?.contains(&true) {
        tokio::time::sleep(SETTLING).await;
    }
    Ok(())
}

async fn is_complete(session: &Session) -> Result<bool> {
    let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let channel = session.channel().await?;
    let found =
        channel.exchange_declare(LOW_COMPLETE.into(), ExchangeKind::Fanout, options, FieldTable::default());
    there(session, found.await)
}

async fn has_queue(session: &Session, name: &str) -> Result<bool> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let channel = session.channel().await?;
    there(session, channel.queue_declare(name.into(), options, FieldTable::default()).await)
}

fn there<T>(session: &Session, answer: lapin::Result<T>) -> Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(session.fault(&error)),
    }
}

/// `polyqueue.due`, and the queue behind it for what nobody wants.
async fn declare_end(channel: &Channel) -> lapin::Result<()> {
    declare_exchange(channel, UNROUTABLE, ExchangeKind::Fanout, FieldTable::default()).await?;
    declare_queue(channel, UNROUTABLE, quorum()).await?;
    bind(channel, UNROUTABLE, UNROUTABLE, "").await?;
    let mut arguments = FieldTable::default();
    arguments.insert("alternate-exchange".into(), text(UNROUTABLE));
    declare_exchange(channel, DUE, ExchangeKind::Topic, arguments).await
}

/// The exchanges of these levels, each with its way past its waiting queues.
async fn declare_levels(channel: &Channel, levels: std::ops::Range<usize>) -> lapin::Result<()> {
    for level in levels {
        declare_exchange(channel, &exchange(level), ExchangeKind::Topic, FieldTable::default()).await?;
        let (lower, upper, past) = (below(level), exchange(level), pattern(level, 0));
        let options = ExchangeBindOptions::default();
        let bound =
            channel.exchange_bind(lower.into(), upper.into(), past.into(), options, FieldTable::default());
        bound.await?;
    }
    Ok(())
}

async fn declare_waiting(channel: &Channel, step: DelayQueue) -> lapin::Result<()> {
    let name = step.queue();
    declare_queue(channel, &name, waiting(step.level, step.digit)).await?;
    bind(channel, &name, &exchange(step.level), &pattern(step.level, step.digit)).await
}

fn waiting(level: usize, digit: u8) -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(wait_ms(level, digit)));
    arguments.insert("x-dead-letter-exchange".into(), text(&below(level)));
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

async fn declare_exchange(
    channel: &Channel,
    name: &str,
    kind: ExchangeKind,
    arguments: FieldTable,
) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(name.into(), kind, options, arguments).await
}

async fn declare_queue(channel: &Channel, name: &str, arguments: FieldTable) -> lapin::Result<()> {
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(name.into(), options, arguments).await.map(drop)
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, pattern: &str) -> lapin::Result<()> {
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.into(), exchange.into(), pattern.into(), options, FieldTable::default()).await
}

/// A request for a queue: at once, or through the delay queues.
pub(crate) async fn request(
    topology: &Arc<Topology>,
    queue: &QueueName,
    address: &str,
    delay: Duration,
    properties: lapin::BasicProperties,
    body: bytes::Bytes,
) -> Result<PublishRequest> {
    let ready = topology.names.ready(queue);
    match delay_path(delay, address) {
        None => Ok(PublishRequest { exchange: String::new(), key: ready, properties, body }),
        Some(route) => {
            ensure_delay_queues(topology, &[delay]).await?;
            let properties = republish::with_target(properties, &ready);
            Ok(PublishRequest { exchange: route.exchange, key: route.key, properties, body })
        }
    }
}

/// Sees to it, once a connection, that the delay queues are there as far as these delays need it.
///
/// The work goes on when the caller's deadline passes, so that the next call finds it done.
pub(crate) async fn ensure_delay_queues(topology: &Arc<Topology>, delays: &[Duration]) -> Result<()> {
    let publisher = topology.handle.publisher().await?;
    let mut steps: Vec<DelayQueue> = delays.iter().copied().flat_map(high_steps).collect();
    steps.retain(|step| !publisher.knows(&step.queue()));
    if publisher.knows(LOW) && steps.is_empty() {
        return Ok(());
    }
    let topology = topology.clone();
    let work = tokio::spawn(async move { declare_delay_queues(&topology, publisher, steps).await });
    work.await.unwrap_or_else(|_| Err(lost()))
}

async fn declare_delay_queues(
    topology: &Arc<Topology>,
    publisher: Publisher,
    mut steps: Vec<DelayQueue>,
) -> Result<()> {
    let _one_at_a_time = topology.levels.lock().await;
    if !publisher.knows(LOW) {
        ensure_low(&*topology.handle.control().await?).await?;
        publisher.remember(LOW.to_owned());
        unroutable::watch(topology);
    }
    let mut seen = std::collections::HashSet::new();
    steps.retain(|step| !publisher.knows(&step.queue()) && seen.insert(*step));
    ensure_high(&*topology.handle.control().await?, &steps).await?;
    for step in steps {
        publisher.remember(step.queue());
    }
    Ok(())
}
