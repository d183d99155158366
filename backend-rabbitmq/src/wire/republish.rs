//! Copies of a message: what changes when it is published again, all else kept as it came.

use std::time::Duration;

use chrono::{DateTime, Utc};
use lapin::BasicProperties;
use lapin::types::FieldTable;
use polyqueue::{Message, Priority};

use super::decode::{AttemptHistory, decode};
use crate::queue_type::classic::FOREMOST;

use super::properties::{Raw, WAITING, is_brokers, key, number, table, text};
use super::terms::expiring;

/// The original's properties without what must not be published twice: what the broker added, an expiry that began at the
/// first publish, and the name of a user that the broker would compare with ours.
pub(super) fn base(original: &BasicProperties) -> BasicProperties {
    let kept = original.clone();
    let mut properties = BasicProperties::default().with_delivery_mode(2);
    type Setter<T> = fn(BasicProperties, T) -> BasicProperties;
    let texts: [(_, Setter<_>); 7] = [
        (kept.content_type(), BasicProperties::with_content_type),
        (kept.content_encoding(), BasicProperties::with_content_encoding),
        (kept.correlation_id(), BasicProperties::with_correlation_id),
        (kept.reply_to(), BasicProperties::with_reply_to),
        (kept.message_id(), BasicProperties::with_message_id),
        (kept.kind(), BasicProperties::with_type),
        (kept.app_id(), BasicProperties::with_app_id),
    ];
    for (value, set) in texts {
        if let Some(value) = value.clone() {
            properties = set(properties, value);
        }
    }
    if let Some(priority) = *kept.priority() {
        properties = properties.with_priority(priority);
    }
    if let Some(timestamp) = *kept.timestamp() {
        properties = properties.with_timestamp(timestamp);
    }
    properties
}

/// The original's headers without the broker's and without those that `drop` names.
pub(super) fn headers(original: &BasicProperties, drop: &[&str]) -> FieldTable {
    let mut kept = FieldTable::default();
    for (key, value) in table(original) {
        if !is_brokers(key) && !drop.contains(&key) {
            kept.insert(key.into(), value.clone());
        }
    }
    kept
}

/// The message once more, for `attempt`. With `error`, because a handler failed; with `allowed`, because an attempt did that was
/// held to this maximum.
///
/// Id and priority are written out, so that a foreign message is from now on what we said that it is.
pub(crate) fn republished(
    raw: &Raw,
    message: &Message,
    attempt: u32,
    allowed: Option<u32>,
    error: Option<&str>,
) -> BasicProperties {
    let dropped = [&[key::PRIORITY][..], &WAITING].concat();
    let mut headers = headers(&raw.properties, &dropped);
    headers.insert(key::ATTEMPT.into(), number(attempt.into()));
    if let Some(allowed) = allowed {
        headers.insert(key::ALLOWED.into(), number(allowed.into()));
    }
    if let Some(error) = error {
        headers.insert(key::RETRIES.into(), number(i64::from(message.retries()) + 1));
        headers.insert(key::ERROR.into(), text(error));
    }
    base(&raw.properties)
        .with_message_id(message.id().as_str().into())
        .with_priority(message.priority().get())
        .with_headers(headers)
}

/// The same copy, before all others of its queue.
pub(crate) fn foremost(properties: BasicProperties, own: Priority) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default();
    headers.insert(key::PRIORITY.into(), number(own.get().into()));
    properties.with_priority(FOREMOST).with_headers(headers)
}

/// A dead letter made ready again: attempts from 1, `attempts` more in its former lives, its time to live from now on.
pub(crate) fn redriven(
    raw: &Raw,
    lives: AttemptHistory,
    attempts: u32,
    ttl: Option<Duration>,
    now: DateTime<Utc>,
) -> BasicProperties {
    let own = decode(raw).map_or_else(|_| *raw.properties.priority(), |it| Some(it.message.priority().get()));
    let ended = [&[key::DEAD, key::ATTEMPT, key::ALLOWED, key::PRIORITY, key::UNTIL][..], &WAITING].concat();
    let mut headers = headers(&raw.properties, &ended);
    headers.insert(key::REDRIVEN.into(), number(i64::from(lives.redriven) + 1));
    headers.insert(key::FORMER.into(), number(i64::from(lives.former) + i64::from(attempts)));
    let mut properties = base(&raw.properties).with_headers(headers);
    if raw.properties.priority() == &Some(FOREMOST)
        && let Some(own) = own
    {
        properties = properties.with_priority(own);
    }
    match ttl {
        Some(ttl) => expiring(properties, ttl, (now + ttl).timestamp_millis(), Some(ttl)),
        None => properties,
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode::encode;
    use super::super::properties::entry;
    use super::*;
    use bytes::Bytes;
    use lapin::types::AMQPValue;

    fn published() -> Raw {
        let message = Message::new("b").with_header("k", "v").with_kind("mail");
        Raw { properties: encode(&message, 5), body: Bytes::from_static(b"b") }
    }

    fn add(raw: &Raw, key: &str, value: AMQPValue) -> Raw {
        let mut headers = raw.properties.headers().clone().unwrap();
        headers.insert(key.into(), value);
        Raw { properties: raw.properties.clone().with_headers(headers), body: raw.body.clone() }
    }

    #[test]
    fn a_retry_changes_what_it_must_and_nothing_else() {
        let raw = add(&published(), "x-pq-later", number(9));
        let first = decode(&raw).unwrap();
        let copy = Raw {
            properties: republished(&raw, &first.message, 2, Some(9), Some("boom α")),
            body: raw.body.clone(),
        };
        let second = decode(&copy).unwrap();
        assert_eq!((second.lives.attempt, second.lives.allowed), (2, 9));
        assert_eq!((second.message.retries(), second.message.last_error()), (1, Some("boom α")));
        assert_eq!(second.message.id(), first.message.id());
        assert_eq!(second.message.headers(), first.message.headers());
        assert!(copy.properties.headers().as_ref().unwrap().contains_key("x-pq-later"));
    }

    #[test]
    fn what_is_the_brokers_is_not_published_again() {
        let raw = add(&add(&published(), "x-death", number(1)), "CC", text("elsewhere"));
        let raw = Raw {
            properties: raw.properties.with_expiration("5".into()).with_user_id("guest".into()),
            body: raw.body,
        };
        let message = decode(&raw).unwrap().message;
        let copy = republished(&raw, &message, 1, None, None);
        assert_eq!((copy.expiration(), copy.user_id()), (&None, &None));
        let headers = copy.headers().as_ref().unwrap();
        assert!(!headers.contains_key("x-death") && !headers.contains_key("CC"));
    }

    #[test]
    fn what_stands_before_all_others_has_its_own_priority_again_in_the_next_copy() {
        let raw = published();
        let message = decode(&raw).unwrap().message;
        let copy = foremost(republished(&raw, &message, 1, None, None), message.priority());
        assert_eq!(*copy.priority(), Some(FOREMOST));
        let raw = Raw { properties: copy, body: raw.body };
        let read = decode(&raw).unwrap();
        assert_eq!(read.message.priority(), Priority::DEFAULT);
        let retried = republished(&raw, &read.message, 2, None, None);
        let redriven = redriven(&raw, read.lives, 1, None, DateTime::UNIX_EPOCH);
        for next in [retried, redriven] {
            assert_eq!(*next.priority(), Some(Priority::DEFAULT.get()));
            assert!(entry(next.headers().as_ref().unwrap(), key::PRIORITY).is_none());
        }
    }

    #[test]
    fn a_redriven_message_begins_anew_and_remembers() {
        let raw = add(&add(&published(), key::ATTEMPT, number(3)), key::ALLOWED, number(9));
        let lives = decode(&raw).unwrap().lives;
        let copy =
            Raw { properties: redriven(&raw, lives, 3, None, DateTime::UNIX_EPOCH), body: raw.body.clone() };
        assert_eq!(
            decode(&copy).unwrap().lives,
            AttemptHistory { attempt: 1, redriven: 1, former: 3, allowed: 0 }
        );
    }
}
