//! The record of a death: one more header on the message, whose body and other headers stay as they were.

use chrono::{DateTime, Utc};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use polyqueue::backend::cut_error;
use polyqueue::{DeadBody, DeadId, DeadLetter, DeadReason, QueueName};

use super::decode::Decoded;
use super::decode::{AttemptHistory, decode};
use super::hash::Hash;
use super::properties::{Raw, WAITING, as_number, as_text, entry, key, number, text};
use super::republish::{base, headers};
use super::terms::{buried, died_at};

/// The error text of what died by its time to live.
pub(crate) const EXPIRED: &str = "expired";

/// How the id of a letter begins that carries none.
const UNMARKED: &str = "unmarked-";

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
pub(crate) fn dead_letter(raw: &Raw, death: Death) -> BasicProperties {
    let mut record = FieldTable::default();
    record.insert("id".into(), text(uuid::Uuid::now_v7().simple().to_string()));
    record.insert("reason".into(), text(death.reason.as_str()));
    record.insert("error".into(), text(cut_error(death.error)));
    record.insert("attempts".into(), number(death.attempts.into()));
    record.insert("at".into(), number(death.at.timestamp_millis()));
    if let Some(consumer) = death.consumer {
        record.insert("consumer".into(), text(consumer));
    }
    let mut headers = headers(&raw.properties, &[&[key::DEAD][..], &WAITING].concat());
    headers.insert(key::DEAD.into(), AMQPValue::FieldTable(record));
    base(&raw.properties).with_headers(headers)
}

/// A dead letter as it lies in its queue, with what a redrive needs.
pub(crate) fn read_dead_letter(queue: &QueueName, raw: &Raw) -> (DeadLetter, AttemptHistory) {
    let decoded = decode(raw);
    let lives = decoded
        .as_ref()
        .map_or(AttemptHistory { attempt: 1, ..AttemptHistory::default() }, |decoded| decoded.lives);
    let record = match raw.properties.headers().as_ref().and_then(|headers| entry(headers, key::DEAD)) {
        Some(AMQPValue::FieldTable(record)) => Some(record),
        _ => None,
    };
    let (id, death) = match (record, buried(&raw.properties), &decoded) {
        (None, Some(death), Ok(decoded)) => brokers(death, decoded),
        (Some(record), ..) => ours(record, raw),
        (None, ..) => ours(&FieldTable::default(), raw),
    };
    let message = decoded.ok().map(|decoded| decoded.message);
    let body = message.map_or_else(|| DeadBody::Raw(raw.body.clone()), |m| DeadBody::Message(Box::new(m)));
    let mut letter = DeadLetter::new(id, queue.clone(), body, death.reason, death.at);
    letter.error = death.error;
    letter.attempts = death.attempts;
    letter.total_attempts = lives.former.saturating_add(death.attempts);
    letter.redriven = lives.redriven;
    letter.consumer = death.consumer;
    (letter, lives)
}

/// A death that a client recorded.
fn ours(record: &FieldTable, raw: &Raw) -> (DeadId, Death) {
    let said = |key: &str| entry(record, key).and_then(as_text);
    let attempts = entry(record, "attempts").and_then(as_number).and_then(|n| u32::try_from(n).ok());
    let at = entry(record, "at").and_then(as_number).and_then(DateTime::from_timestamp_millis);
    let death = Death {
        reason: said("reason").and_then(|r| r.parse().ok()).unwrap_or(DeadReason::Undecodable),
        error: said("error").unwrap_or_default().to_owned(),
        attempts: attempts.unwrap_or_default(),
        consumer: said("consumer").map(str::to_owned),
        at: at.unwrap_or_default(),
    };
    let id = said("id").map_or_else(|| unmarked(raw), str::to_owned);
    (DeadId::new(id), death)
}

/// The id of what somebody else has put among the letters: what it is. Two that are the same in all are not told apart.
fn unmarked(raw: &Raw) -> String {
    let mut id = Hash::new();
    id.add(&raw.body);
    id.add(format!("{:?}", raw.properties).as_bytes());
    format!("{UNMARKED}{:032x}", id.0)
}

/// Whether other letters may have the same id.
pub(crate) fn is_unmarked(id: &DeadId) -> bool {
    id.as_str().starts_with(UNMARKED)
}

/// A death that the broker noticed, in the second that it names: at the end of the time to live, when that lies in it.
fn brokers(record: &FieldTable, decoded: &Decoded) -> (DeadId, Death) {
    let second = died_at(record).unwrap_or_default();
    let end = decoded.expiry.and_then(|expiry| expiry.at).unwrap_or(second).clamp(second, second + 999);
    let mut id = Hash::new();
    id.add(decoded.message.id().as_str().as_bytes());
    for number in [end, decoded.message.published_at().map_or(0, |at| at.timestamp_millis())] {
        id.add(&number.to_be_bytes());
    }
    let death = Death {
        reason: DeadReason::Expired,
        error: EXPIRED.to_owned(),
        attempts: decoded.lives.attempt.saturating_sub(1),
        consumer: None,
        at: DateTime::from_timestamp_millis(end).unwrap_or_default(),
    };
    (DeadId::new(format!("{:032x}", id.0)), death)
}

#[cfg(test)]
mod tests {
    use super::super::encode::encode;
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
        let dead =
            Raw { properties: dead_letter(&raw, death(DeadReason::MaxAttempts)), body: raw.body.clone() };
        let (letter, _) = read_dead_letter(&QueueName::from_static("q"), &dead);
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
        let dead =
            Raw { properties: dead_letter(&raw, death(DeadReason::Undecodable)), body: raw.body.clone() };
        let (letter, _) = read_dead_letter(&QueueName::from_static("q"), &dead);
        assert_eq!(letter.body, DeadBody::Raw(raw.body));
        assert_eq!(letter.reason, DeadReason::Undecodable);
    }

    #[test]
    fn what_the_broker_filed_is_understood() {
        let now = DateTime::from_timestamp_millis(1_700_000_000_123).unwrap();
        let message =
            Message::new("b").with_ttl(std::time::Duration::from_millis(1500)).with_published_at(now);
        let sent = super::super::terms::with_terms(encode(&message, now.timestamp_millis()), &message, now);
        let mut death = FieldTable::default();
        death.insert("reason".into(), text("expired"));
        death.insert("queue".into(), text("polyqueue.q.q"));
        death.insert("time".into(), AMQPValue::Timestamp(1_700_000_001));
        let mut headers = sent.headers().clone().unwrap_or_default();
        headers.insert("x-death".into(), AMQPValue::FieldArray(vec![AMQPValue::FieldTable(death)].into()));
        headers.insert(key::ATTEMPT.into(), number(3));
        let raw = Raw { properties: sent.with_headers(headers), body: Bytes::from_static(b"b") };
        let (letter, _) = read_dead_letter(&QueueName::from_static("q"), &raw);
        assert_eq!(
            (letter.reason, letter.error.as_str(), letter.attempts),
            (DeadReason::Expired, EXPIRED, 2)
        );
        assert_eq!(letter.died_at.timestamp_millis(), 1_700_000_001_623);
        assert_eq!(letter.message().unwrap().ttl(), message.ttl());
        assert_eq!(read_dead_letter(&QueueName::from_static("q"), &raw).0.id, letter.id);
    }
}
