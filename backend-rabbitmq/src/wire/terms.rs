//! What a message asks for beyond its delivery: a time to live, a dedup key, a reply.

use std::time::Duration;

use chrono::{DateTime, Utc};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use polyqueue::{DedupUntil, Message};

use super::properties::{as_number, as_text, entry, key, number, table, text};

/// The properties with what the message asks for. The broker itself looks after the time to live of what goes straight to
/// its queue; what is delayed must not expire while it waits, so its readers compare the time that is written on it.
pub(crate) fn with_terms(
    mut properties: BasicProperties,
    message: &Message,
    now: DateTime<Utc>,
) -> BasicProperties {
    if let Some(address) = message.reply_to() {
        properties = properties.with_reply_to(address.as_str().into());
    }
    if let Some(dedup_key) = message.dedup_key() {
        let mut headers = properties.headers().clone().unwrap_or_default();
        headers.insert(key::DEDUP.into(), text(dedup_key));
        properties = properties.with_headers(headers);
    }
    match message.ttl() {
        Some(ttl) => {
            let end = now.timestamp_millis().saturating_add(millis(ttl));
            expiring(properties, ttl, end, Some(ttl).filter(|_| message.delay().is_zero()))
        }
        None => properties,
    }
}

/// The properties of a message for which its key was claimed: who settles it need not know what its queue is declared to be.
pub(crate) fn claimed(properties: BasicProperties, until: DedupUntil) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default();
    headers.insert(key::UNTIL.into(), text(until_text(until)));
    properties.with_headers(headers)
}

/// Until when the key is taken that was claimed for this copy.
pub(crate) fn claimed_until(properties: &BasicProperties) -> Option<DedupUntil> {
    let (_, said) = table(properties).find(|(key, _)| *key == key::UNTIL)?;
    let said = as_text(said)?;
    [DedupUntil::Window, DedupUntil::Ack].into_iter().find(|until| until_text(*until) == said)
}

fn until_text(until: DedupUntil) -> &'static str {
    match until {
        DedupUntil::Window => "window",
        DedupUntil::Ack => "ack",
    }
}

/// The properties of a copy whose time to live ends at `end`, in milliseconds since 1970; the broker is to count `left`.
pub(crate) fn expiring(
    properties: BasicProperties,
    ttl: Duration,
    end: i64,
    left: Option<Duration>,
) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default();
    headers.insert(key::TTL.into(), number(millis(ttl)));
    headers.insert(key::EXPIRES.into(), number(end));
    let properties = properties.with_headers(headers);
    match left {
        Some(left) => properties.with_expiration(millis(left).max(1).to_string().into()),
        None => properties,
    }
}

/// Whole milliseconds, rounded up.
fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

/// The time to live that a foreign client gave in AMQP's own way; the broker moves it when it files a dead letter.
pub(super) fn expiration(properties: &BasicProperties) -> Option<Duration> {
    let given = properties.expiration().as_ref().map(|text| text.as_str());
    let given = given.or_else(|| entry(buried(properties)?, "original-expiration").and_then(as_text));
    given.and_then(|text| text.parse().ok()).map(Duration::from_millis)
}

/// What the broker says of a message that it filed as a dead letter, for its time was over.
pub(super) fn buried(properties: &BasicProperties) -> Option<&FieldTable> {
    let (_, deaths) = table(properties).find(|(key, _)| *key == "x-death")?;
    let AMQPValue::FieldArray(deaths) = deaths else { return None };
    let expired = |death: &&FieldTable| {
        entry(death, "reason").and_then(as_text).is_some_and(|reason| reason == "expired")
    };
    let deaths = deaths.as_slice().iter().filter_map(|death| match death {
        AMQPValue::FieldTable(death) => Some(death),
        _ => None,
    });
    deaths.into_iter().find(expired)
}

/// Whether the broker filed this dead letter, without a word to anybody.
pub(crate) fn is_unnoticed(properties: &BasicProperties) -> bool {
    buried(properties).is_some() && table(properties).all(|(key, _)| key != key::DEAD)
}

/// When a message's time to live ends, as it is written on it: in milliseconds since 1970.
pub(crate) fn end(properties: &BasicProperties) -> Option<i64> {
    entry(properties.headers().as_ref()?, key::EXPIRES).and_then(as_number)
}

/// When the broker filed a dead letter, in whole seconds, as milliseconds since 1970.
pub(super) fn died_at(death: &FieldTable) -> Option<i64> {
    Some(entry(death, "time").and_then(as_number)?.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::super::decode::decode;
    use super::super::encode::encode;
    use super::*;
    use crate::wire::properties::Raw;
    use polyqueue::ReplyAddress;

    #[test]
    fn terms_come_back_as_they_were() {
        let now = DateTime::from_timestamp_millis(1_700_000_000_123).unwrap();
        let message = Message::new("b")
            .with_ttl(Duration::from_micros(1_499_001))
            .with_dedup_key("k")
            .with_reply_to(ReplyAddress::new("here").unwrap())
            .with_published_at(now);
        let properties = with_terms(encode(&message, now.timestamp_millis()), &message, now);
        assert_eq!(properties.expiration().as_ref().unwrap().as_str(), "1500");
        let decoded = decode(&Raw { properties, body: "b".into() }).unwrap();
        assert_eq!(decoded.message, message.clone().with_ttl(Duration::from_millis(1500)));
        let expiry = decoded.expiry.unwrap();
        assert_eq!((expiry.at, expiry.watched), (Some(1_700_000_001_623), true));
    }

    #[test]
    fn nothing_expires_while_it_waits() {
        let message = Message::new("b").with_ttl(Duration::from_secs(2)).with_delay(Duration::from_secs(1));
        let properties = with_terms(encode(&message, 0), &message, DateTime::UNIX_EPOCH);
        assert_eq!(properties.expiration(), &None);
        assert!(!decode(&Raw { properties, body: "b".into() }).unwrap().expiry.unwrap().watched);
    }

    #[test]
    fn a_foreign_client_says_it_in_its_own_way() {
        let properties = BasicProperties::default().with_expiration("70".into());
        let decoded = decode(&Raw { properties, body: "b".into() }).unwrap();
        assert_eq!(decoded.message.ttl(), Some(Duration::from_millis(70)));
        assert!(decoded.expiry.is_some_and(|expiry| expiry.watched && expiry.at.is_none()));
    }

    #[test]
    fn until_when_a_key_is_taken_comes_back_and_nothing_else_does() {
        for until in [DedupUntil::Window, DedupUntil::Ack] {
            assert_eq!(claimed_until(&claimed(BasicProperties::default(), until)), Some(until));
        }
        assert_eq!(claimed_until(&BasicProperties::default()), None);
        let mut headers = FieldTable::default();
        headers.insert(key::UNTIL.into(), text("tomorrow"));
        assert_eq!(claimed_until(&BasicProperties::default().with_headers(headers)), None);
    }
}
