//! Delays as decimal digits: one hop through a waiting queue for every digit that is not zero.

use std::time::Duration;

use lapin::options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use polyqueue::Result;

use crate::connection::fault::is_missing;
use crate::connection::link::Session;

/// The smallest step of a delay, in milliseconds.
const GRAIN_MS: u128 = 10;
/// Ten digits reach past 365 days.
pub(crate) const LEVELS: usize = 10;
/// Levels that every queue may need at once: delays below 100 s.
pub(crate) const LOW_LEVELS: usize = 4;
/// Where the delay queues end.
pub(crate) const DUE: &str = "polyqueue.due";
/// Where a delayed message goes whose queue is not there.
pub(crate) const UNROUTABLE: &str = "polyqueue.unrouted";
/// A quorum queue on RabbitMQ 3.10 survives a crash from this age on.
const SETTLING: Duration = Duration::from_secs(1);

/// The way of one delayed message: the exchange where it enters, and its routing key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DelayPath {
    pub(crate) exchange: String,
    pub(crate) key: String,
}

/// One waiting queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DelayQueue {
    pub(crate) level: usize,
    digit: u8,
}

impl DelayQueue {
    /// Its name on the broker.
    pub(crate) fn queue(self) -> String {
        format!("polyqueue.delay.{}.{}", self.level, self.digit)
    }
}

fn digits(delay: Duration) -> Vec<u8> {
    let grains = delay.as_nanos().div_ceil(GRAIN_MS * 1_000_000);
    (0..LEVELS as u32).map(|level| (grains / 10_u128.pow(level) % 10) as u8).collect()
}

/// The waiting queues above the low levels that a delay goes through.
pub(crate) fn high_steps(delay: Duration) -> impl Iterator<Item = DelayQueue> {
    let steps = digits(delay).into_iter().enumerate().map(|(level, digit)| DelayQueue { level, digit });
    steps.filter(|step| step.level >= LOW_LEVELS && step.digit > 0)
}

/// The way that takes `delay`, rounded up to 10 ms, to the queue at `address`. `None` for no delay.
pub(crate) fn route(delay: Duration, address: &str) -> Option<DelayPath> {
    let digits = digits(delay);
    let level = digits.iter().rposition(|digit| *digit > 0)?;
    let mut key: String = digits.iter().rev().map(|digit| format!("{digit}.")).collect();
    key.push_str(address);
    Some(DelayPath { exchange: exchange(level), key })
}

/// The address at the end of a routing key.
pub(crate) fn address_of(key: &str) -> Option<&str> {
    key.rsplit('.').next().filter(|_| key.split('.').count() == LEVELS + 1)
}

/// The pattern by which `polyqueue.due` knows a queue.
pub(crate) fn due_pattern(address: &str) -> String {
    "*.".repeat(LEVELS) + address
}

fn exchange(level: usize) -> String {
    format!("polyqueue.delay.{level}")
}

/// Exists only when all low levels do.
const LOW_COMPLETE: &str = "polyqueue.delay.complete";

/// Where messages go from a level.
fn below(level: usize) -> String {
    level.checked_sub(1).map_or_else(|| DUE.to_owned(), exchange)
}

/// The pattern of keys that have `digit` at `level`.
fn pattern(level: usize, digit: u8) -> String {
    format!("{}{digit}.#", "*.".repeat(LEVELS - 1 - level))
}

/// How long a waiting queue holds a message. The millisecond more makes up for the broker's clock, which is cut to whole
/// milliseconds when a message comes in.
fn wait_ms(level: usize, digit: u8) -> i64 {
    i64::from(digit) * GRAIN_MS as i64 * 10_i64.pow(level as u32) + 1
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn way(ms: u64) -> Option<(usize, String)> {
        route(Duration::from_millis(ms), "a")
            .map(|route| (route.exchange.rsplit('.').next().unwrap().parse().unwrap(), route.key))
    }

    #[test]
    fn no_delay_has_no_way() {
        assert_eq!(way(0), None);
    }

    #[test]
    fn delays_are_rounded_up_to_ten_milliseconds() {
        assert_eq!(way(1), Some((0, "0.0.0.0.0.0.0.0.0.1.a".into())));
        assert_eq!(way(10), way(1));
        assert_eq!(way(11), Some((0, "0.0.0.0.0.0.0.0.0.2.a".into())));
        assert_eq!(route(Duration::from_nanos(1), "a"), route(Duration::from_millis(10), "a"));
    }

    #[test]
    fn a_message_enters_at_its_highest_digit() {
        assert_eq!(way(1000), Some((2, "0.0.0.0.0.0.0.1.0.0.a".into())));
        assert_eq!(way(99_990), Some((3, "0.0.0.0.0.0.9.9.9.9.a".into())));
        assert_eq!(way(100_000), Some((LOW_LEVELS, "0.0.0.0.0.1.0.0.0.0.a".into())));
        let year = route(Duration::from_secs(365 * 24 * 60 * 60), "a").unwrap();
        assert_eq!(
            (year.exchange.as_str(), year.key.as_str()),
            ("polyqueue.delay.9", "3.1.5.3.6.0.0.0.0.0.a")
        );
    }

    #[test]
    fn the_waits_of_all_digits_add_up_to_the_delay() {
        for ms in [10_u64, 250, 1230, 59_990, 3_600_000, 31_536_000_000] {
            let (_, key) = way(ms).unwrap();
            let digits: Vec<u8> = key.split('.').take(LEVELS).map(|digit| digit.parse().unwrap()).collect();
            let sum: i64 = digits
                .iter()
                .rev()
                .enumerate()
                .filter(|(_, digit)| **digit > 0)
                .map(|(level, digit)| wait_ms(level, *digit) - 1)
                .sum();
            assert_eq!(sum, ms as i64);
        }
    }

    #[test]
    fn a_far_delay_needs_a_queue_for_each_high_digit_that_is_not_zero() {
        let queues = |secs| high_steps(Duration::from_secs(secs)).map(DelayQueue::queue).collect::<Vec<_>>();
        assert_eq!(queues(99), Vec::<String>::new());
        assert_eq!(queues(100), ["polyqueue.delay.4.1"]);
        assert_eq!(
            queues(30 * 24 * 60 * 60),
            ["polyqueue.delay.5.2", "polyqueue.delay.6.9", "polyqueue.delay.7.5", "polyqueue.delay.8.2"]
        );
    }

    #[test]
    fn patterns_stand_at_the_place_of_their_digit() {
        assert_eq!(pattern(9, 3), "3.#");
        assert_eq!(pattern(0, 7), "*.*.*.*.*.*.*.*.*.7.#");
        assert_eq!(due_pattern("a").split('.').count(), LEVELS + 1);
    }

    #[test]
    fn the_address_is_found_again() {
        let route = route(Duration::from_secs(3), "4f2a").unwrap();
        assert_eq!(address_of(&route.key), Some("4f2a"));
        assert_eq!(address_of("somebody.elses.key"), None);
    }
}
