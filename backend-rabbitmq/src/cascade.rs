//! Delays as decimal digits: one hop through a waiting queue for every digit that is not zero.

use std::time::Duration;

use lapin::options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use polyqueue::Result;

use crate::fault::is_missing;
use crate::link::Session;

/// The smallest step of a delay, in milliseconds.
const GRAIN_MS: u128 = 10;
/// Ten digits reach past 365 days.
pub(crate) const LEVELS: usize = 10;
/// Levels that every queue may need at once: delays below 100 s.
pub(crate) const LOW_LEVELS: usize = 4;
/// Where the cascade ends.
pub(crate) const DUE: &str = "polyqueue.due";
/// Where a delayed message goes whose queue is not there.
pub(crate) const UNROUTED: &str = "polyqueue.unrouted";
/// A quorum queue on RabbitMQ 3.10 survives a crash from this age on.
const SETTLING: Duration = Duration::from_secs(1);

/// The way of one delayed message: the exchange where it enters, its routing key, and the level of that exchange.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) exchange: String,
    pub(crate) key: String,
    pub(crate) level: usize,
}

/// The way that takes `delay`, rounded up to 10 ms, to the queue at `address`. `None` for no delay.
pub(crate) fn route(delay: Duration, address: &str) -> Option<Route> {
    let grains = delay.as_nanos().div_ceil(GRAIN_MS * 1_000_000);
    let digits: Vec<u8> = (0..LEVELS as u32).map(|level| (grains / 10_u128.pow(level) % 10) as u8).collect();
    let level = digits.iter().rposition(|digit| *digit > 0)?;
    let mut key: String = digits.iter().rev().map(|digit| format!("{digit}.")).collect();
    key.push_str(address);
    Some(Route { exchange: exchange(level), key, level })
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

/// Exists only when the whole level does.
fn marker(level: usize) -> String {
    format!("polyqueue.delay.{level}.complete")
}

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

/// Makes the levels below `levels` and what lies at their end; returns when they survive a crash of the broker.
pub(crate) async fn ensure(session: &Session, levels: std::ops::Range<usize>) -> Result<()> {
    let Some(last) = levels.clone().last() else { return Ok(()) };
    if exists(session, last).await? {
        return Ok(());
    }
    let ground = session.channel().await?;
    declare_end(&ground).await.map_err(|e| session.fault(&e))?;
    for level in levels.clone() {
        declare_exchange(&ground, &exchange(level), ExchangeKind::Topic, FieldTable::default())
            .await
            .map_err(|e| session.fault(&e))?;
    }
    let each = levels.clone().map(|level| async move {
        let channel = session.channel().await?;
        declare_level(&channel, level).await.map_err(|e| session.fault(&e))
    });
    futures_util::future::try_join_all(each).await?;
    tokio::time::sleep(SETTLING).await;
    for level in levels {
        declare_exchange(&ground, &marker(level), ExchangeKind::Fanout, FieldTable::default())
            .await
            .map_err(|e| session.fault(&e))?;
    }
    tracing::info!(event = "rabbitmq.cascade_declared", last_level = last);
    Ok(())
}

async fn exists(session: &Session, level: usize) -> Result<bool> {
    let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let channel = session.channel().await?;
    match channel
        .exchange_declare(marker(level).into(), ExchangeKind::Fanout, options, FieldTable::default())
        .await
    {
        Ok(()) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(session.fault(&error)),
    }
}

/// `polyqueue.due`, and the queue behind it for what nobody wants.
async fn declare_end(channel: &Channel) -> lapin::Result<()> {
    declare_exchange(channel, UNROUTED, ExchangeKind::Fanout, FieldTable::default()).await?;
    declare_queue(channel, UNROUTED, quorum()).await?;
    bind(channel, UNROUTED, UNROUTED, "").await?;
    let mut arguments = FieldTable::default();
    arguments.insert("alternate-exchange".into(), text(UNROUTED));
    declare_exchange(channel, DUE, ExchangeKind::Topic, arguments).await
}

async fn declare_level(channel: &Channel, level: usize) -> lapin::Result<()> {
    channel
        .exchange_bind(
            below(level).into(),
            exchange(level).into(),
            pattern(level, 0).into(),
            ExchangeBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let digits = (1..=9_u8).map(|digit| async move {
        let name = format!("polyqueue.delay.{level}.{digit}");
        declare_queue(channel, &name, waiting(level, digit)).await?;
        bind(channel, &name, &exchange(level), &pattern(level, digit)).await
    });
    futures_util::future::try_join_all(digits).await.map(drop)
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
        route(Duration::from_millis(ms), "a").map(|route| (route.level, route.key))
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
        assert_eq!((year.level, year.key.as_str()), (9, "3.1.5.3.6.0.0.0.0.0.a"));
        assert_eq!(year.exchange, "polyqueue.delay.9");
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
