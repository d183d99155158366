//! The record of a death: one more header on the message, whose body and other headers stay as they were.

use chrono::{DateTime, Utc};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use polyqueue::{DeadBody, DeadId, DeadLetter, DeadReason, QueueName, cut_error};

use super::copy::{base, entry, headers};
use super::{Lives, Raw, as_number, as_text, decode, key, number, text};

/// What is to be said of a death.
#[derive(Clone, Debug)]
pub(crate) struct Death {
    pub(crate) reason: DeadReason,
    pub(crate) error: String,
    /// Hand-outs in this life.
    pub(crate) attempts: u32,
    pub(crate) consumer: Option<String>,
    pub(crate) at: DateTime<Utc>,
}

/// The properties of the dead letter.
pub(crate) fn bury(raw: &Raw, death: Death) -> BasicProperties {
    let mut record = FieldTable::default();
    record.insert("id".into(), text(uuid::Uuid::now_v7().simple().to_string()));
    record.insert("reason".into(), text(death.reason.as_str()));
    record.insert("error".into(), text(cut_error(death.error)));
    record.insert("attempts".into(), number(death.attempts.into()));
    record.insert("at".into(), number(death.at.timestamp_millis()));
    if let Some(consumer) = death.consumer {
        record.insert("consumer".into(), text(consumer));
    }
    let mut headers = headers(&raw.properties, &[key::DEAD, key::TARGET]);
    headers.insert(key::DEAD.into(), AMQPValue::FieldTable(record));
    base(&raw.properties).with_headers(headers)
}

/// A dead letter as it lies in its queue, with what a redrive needs.
pub(crate) fn exhume(queue: &QueueName, raw: &Raw) -> (DeadLetter, Lives) {
    let empty = FieldTable::default();
    let record = match raw.properties.headers().as_ref().and_then(|headers| entry(headers, key::DEAD)) {
        Some(AMQPValue::FieldTable(record)) => record,
        _ => &empty,
    };
    let said = |key: &str| entry(record, key).and_then(as_text);
    let attempts = entry(record, "attempts").and_then(as_number).and_then(|n| u32::try_from(n).ok());
    let attempts = attempts.unwrap_or_default();
    let decoded = decode(raw);
    let lives = decoded.as_ref().map_or(Lives { attempt: 1, ..Lives::default() }, |decoded| decoded.lives);
    let message = decoded.ok().map(|decoded| decoded.message);
    let letter = DeadLetter {
        id: DeadId::new(said("id").unwrap_or("unmarked")),
        queue: queue.clone(),
        reason: said("reason").and_then(|r| r.parse().ok()).unwrap_or(DeadReason::Undecodable),
        error: said("error").unwrap_or_default().to_owned(),
        attempts,
        total_attempts: lives.former.saturating_add(attempts),
        redriven: lives.redriven,
        first_published_at: message.as_ref().and_then(polyqueue::Message::published_at),
        died_at: entry(record, "at")
            .and_then(as_number)
            .and_then(DateTime::from_timestamp_millis)
            .unwrap_or_default(),
        consumer: said("consumer").map(str::to_owned),
        body: message.map_or_else(|| DeadBody::Raw(raw.body.clone()), |m| DeadBody::Message(Box::new(m))),
    };
    (letter, lives)
}

#[cfg(test)]
mod tests {
    use super::super::encode;
    use super::*;
    use bytes::Bytes;
    use polyqueue::Message;

    fn death(reason: DeadReason) -> Death {
        Death {
            reason,
            error: "boom".into(),
            attempts: 3,
            consumer: Some("c".into()),
            at: DateTime::from_timestamp_millis(77).unwrap(),
        }
    }

    #[test]
    fn the_record_tells_all_and_the_message_is_untouched() {
        let message = Message::new("b").with_header("x-death", "mine");
        let raw = Raw { properties: encode(&message, 5), body: Bytes::from_static(b"b") };
        let dead = Raw { properties: bury(&raw, death(DeadReason::MaxAttempts)), body: raw.body.clone() };
        let (letter, _) = exhume(&QueueName::from_static("q"), &dead);
        assert_eq!(letter.message().unwrap().headers(), message.headers());
        assert_eq!((letter.reason, letter.attempts, letter.total_attempts), (DeadReason::MaxAttempts, 3, 3));
        assert_eq!((letter.error.as_str(), letter.consumer.as_deref()), ("boom", Some("c")));
        assert_eq!(letter.died_at.timestamp_millis(), 77);
        assert_eq!(letter.first_published_at.unwrap().timestamp_millis(), 5);
    }

    #[test]
    fn what_was_no_message_is_kept_byte_for_byte() {
        let mut table = FieldTable::default();
        table.insert(key::VERSION.into(), number(99));
        let raw =
            Raw { properties: BasicProperties::default().with_headers(table), body: vec![0, 255].into() };
        let dead = Raw { properties: bury(&raw, death(DeadReason::Undecodable)), body: raw.body.clone() };
        let (letter, _) = exhume(&QueueName::from_static("q"), &dead);
        assert_eq!(letter.body, DeadBody::Raw(raw.body));
        assert_eq!(letter.reason, DeadReason::Undecodable);
    }
}
