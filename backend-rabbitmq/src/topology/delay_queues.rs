//! The queues in which delayed messages wait: made when they are needed, once in a virtual host's life.

use crate::topology::state::Topology;
use std::sync::Arc;
use std::time::Duration;

use crate::connection::change::Change;
use crate::connection::control::Control;
use crate::connection::fault::if_there;
use crate::connection::publisher::{Publisher, lost};
use crate::connection::request::PublishRequest;
use crate::topology::unroutable;
use crate::wire::delay::{
    DUE, DelayQueue, LOW_LEVELS, UNROUTABLE, below, delay_path, exchange, high_steps, pattern, wait_ms,
};
use crate::wire::republish;
use lapin::ExchangeKind;
use lapin::types::{AMQPValue, FieldTable};
use polyqueue::backend::background;
use polyqueue::{Error, QueueName, Result};

/// A quorum queue on RabbitMQ 3.10 survives a crash from this age on.
const SETTLING: Duration = Duration::from_secs(1);

/// Exists only when all low levels do.
const LOW_COMPLETE: &str = "polyqueue.delay.complete";

/// Makes the low levels and what lies at their end, once in a virtual host's life; returns when they survive a crash of the
/// broker.
async fn ensure_low(control: &Control) -> Result<()> {
    if if_there(control.find_exchange(LOW_COMPLETE).await)?.is_some() {
        return Ok(());
    }
    control.change(end()).await?;
    control.change(levels(0..LOW_LEVELS)).await?;
    let each = (0..LOW_LEVELS).map(|level| async move {
        let digits = (1..=9).flat_map(|digit| waiting_queue(DelayQueue { level, digit }));
        control.dedicated().await?.change(digits.collect()).await
    });
    futures_util::future::try_join_all(each).await?;
    tokio::time::sleep(SETTLING).await;
    control.change(vec![fan_out(LOW_COMPLETE)]).await?;
    tracing::info!(name: "rabbitmq.cascade_declared", "declared the queues that delay messages");
    Ok(())
}

/// Makes the waiting queues of these steps above the low levels, and the way down from there.
async fn ensure_high(control: &Control, steps: &[DelayQueue]) -> Result<()> {
    let Some(top) = steps.iter().map(|step| step.level).max() else { return Ok(()) };
    control.change(levels(LOW_LEVELS..top + 1)).await?;
    let each = steps.iter().map(|step| async move {
        let fresh = if_there(control.messages(&step.queue()).await)?.is_none();
        control.dedicated().await?.change(waiting_queue(*step)).await?;
        Ok::<bool, Error>(fresh)
    });
    if futures_util::future::try_join_all(each).await?.contains(&true) {
        tokio::time::sleep(SETTLING).await;
    }
    Ok(())
}

/// `polyqueue.due`, and the queue behind it for what nobody wants.
fn end() -> Vec<Change> {
    let mut arguments = FieldTable::default();
    arguments.insert("alternate-exchange".into(), text(UNROUTABLE));
    vec![
        fan_out(UNROUTABLE),
        Change::Queue { name: UNROUTABLE.to_owned(), arguments: quorum() },
        bind(UNROUTABLE, UNROUTABLE, String::new()),
        Change::Exchange { name: DUE.to_owned(), kind: ExchangeKind::Topic, arguments },
    ]
}

/// The exchanges of these levels, each with its way past its waiting queues.
fn levels(levels: std::ops::Range<usize>) -> Vec<Change> {
    let level = |level| {
        let (name, pattern, arguments) = (exchange(level), pattern(level, 0), FieldTable::default());
        let past = Change::BindExchange { exchange: below(level), source: name.clone(), pattern };
        [Change::Exchange { name, kind: ExchangeKind::Topic, arguments }, past]
    };
    levels.flat_map(level).collect()
}

fn waiting_queue(step: DelayQueue) -> Vec<Change> {
    let (name, arguments) = (step.queue(), waiting(step.level, step.digit));
    let bound = bind(&name, &exchange(step.level), pattern(step.level, step.digit));
    vec![Change::Queue { name, arguments }, bound]
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

fn fan_out(name: &str) -> Change {
    let arguments = FieldTable::default();
    Change::Exchange { name: name.to_owned(), kind: ExchangeKind::Fanout, arguments }
}

fn bind(queue: &str, exchange: &str, pattern: String) -> Change {
    Change::Bind { queue: queue.to_owned(), exchange: exchange.to_owned(), pattern }
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
    if topology.knows_low_levels(&publisher) && steps.is_empty() {
        return Ok(());
    }
    let topology = topology.clone();
    let work = background().spawn(async move { declare_delay_queues(&topology, publisher, steps).await });
    work.await.unwrap_or_else(|_| Err(lost()))
}

async fn declare_delay_queues(
    topology: &Arc<Topology>,
    publisher: Publisher,
    mut steps: Vec<DelayQueue>,
) -> Result<()> {
    let _one_at_a_time = topology.levels.lock().await;
    if !topology.knows_low_levels(&publisher) {
        ensure_low(topology.handle.control()).await?;
        topology.remember_low_levels(&publisher);
        unroutable::watch(topology);
    }
    let mut seen = std::collections::HashSet::new();
    steps.retain(|step| !publisher.knows(&step.queue()) && seen.insert(*step));
    ensure_high(topology.handle.control(), &steps).await?;
    for step in steps {
        publisher.remember(step.queue());
    }
    Ok(())
}
