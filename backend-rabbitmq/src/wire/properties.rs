//! The wire format: our envelope as AMQP properties and headers beside an untouched body.
//!
//! The page that the crate's documentation links to describes it for programs in other languages.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

/// The version of the format that we write. Readers refuse other majors.
pub(crate) const VERSION: i64 = 1;

/// Begins every header of ours; no header of a user reaches the broker under such a name.
pub(crate) const OURS: &str = "x-pq-";

/// Begins the property `app_id` of whatever this library publishes first; the milliseconds of that second follow, which AMQP's own
/// timestamp has not. Short: properties of more than 64 bytes cost the broker a fifth of its throughput, a header a tenth.
pub(super) const BORN: &str = "pq@";

/// Stands for each byte of a short string that no text can hold, and that the client library could not have read.
pub(crate) const SUBSTITUTE: u8 = 0x1a;

/// Our headers.
pub(crate) mod key {
    /// The format's version.
    pub(crate) const VERSION: &str = "x-pq-v";
    /// The attempt that this copy is for, from 1; absent is 1.
    pub(crate) const ATTEMPT: &str = "x-pq-attempt";
    /// When a foreign client published it, in milliseconds since 1970.
    pub(crate) const PUBLISHED: &str = "x-pq-at";
    /// The version of the payload's schema.
    pub(crate) const SCHEMA: &str = "x-pq-schema";
    /// The message's own maximum of attempts.
    pub(crate) const MAX_ATTEMPTS: &str = "x-pq-max";
    /// The greatest maximum under which an attempt at one without its own failed.
    pub(crate) const ALLOWED: &str = "x-pq-allowed";
    /// How often a handler sent it back.
    pub(crate) const RETRIES: &str = "x-pq-retries";
    /// The last error.
    pub(crate) const ERROR: &str = "x-pq-error";
    /// The users' headers that cannot stand for themselves: key, value, key, value …
    pub(crate) const PACKED: &str = "x-pq-headers";
    /// The broker's name of the queue that a delayed copy is for.
    pub(crate) const TARGET: &str = "x-pq-to";
    /// In which boot of the broker this copy was published, where `app_id` is another application's.
    pub(crate) const BOOT: &str = "x-pq-boot";
    /// The message's own priority, while it stands before all others.
    pub(crate) const PRIORITY: &str = "x-pq-priority";
    /// When a delayed copy is due, by the broker's clock, in milliseconds since 1970.
    pub(crate) const DUE: &str = "x-pq-due";
    /// The address of the queue that it is for.
    pub(crate) const ADDRESS: &str = "x-pq-address";
    /// The namespace of that queue.
    pub(crate) const NAMESPACE: &str = "x-pq-ns";
    /// Since when nobody knows that queue, in milliseconds since 1970.
    pub(crate) const STRANDED: &str = "x-pq-stranded";
    /// How often it was redriven.
    pub(crate) const REDRIVEN: &str = "x-pq-redriven";
    /// Attempts of its former lives.
    pub(crate) const FORMER: &str = "x-pq-former";
    /// How long it may be handed out, in milliseconds.
    pub(crate) const TTL: &str = "x-pq-ttl";
    /// When that ends, by the sender's clock, in milliseconds since 1970.
    pub(crate) const EXPIRES: &str = "x-pq-expires";
    /// The key under which its queue stores one message only.
    pub(crate) const DEDUP: &str = "x-pq-key";
    /// The key was claimed for this copy, and until when it is taken.
    pub(crate) const UNTIL: &str = "x-pq-until";
    /// The record of a death.
    pub(crate) const DEAD: &str = "x-pq-dead";
}

/// What is written only on a message that waits.
pub(super) const WAITING: [&str; 5] = [key::TARGET, key::DUE, key::ADDRESS, key::NAMESPACE, key::STRANDED];

/// A message as the broker gave it.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) properties: BasicProperties,
    pub(crate) body: bytes::Bytes,
}

pub(super) fn text(value: impl Into<Vec<u8>>) -> AMQPValue {
    AMQPValue::LongString(value.into().into())
}

pub(super) fn number(value: i64) -> AMQPValue {
    AMQPValue::LongLongInt(value)
}

/// A whole number of whatever AMQP type.
pub(super) fn as_number(value: &AMQPValue) -> Option<i64> {
    Some(match value {
        AMQPValue::ShortShortInt(n) => (*n).into(),
        AMQPValue::ShortShortUInt(n) => (*n).into(),
        AMQPValue::ShortInt(n) => (*n).into(),
        AMQPValue::ShortUInt(n) => (*n).into(),
        AMQPValue::LongInt(n) => (*n).into(),
        AMQPValue::LongUInt(n) => (*n).into(),
        AMQPValue::LongLongInt(n) => *n,
        AMQPValue::Timestamp(n) => i64::try_from(*n).ok()?,
        _ => return None,
    })
}

/// A text in UTF-8.
pub(super) fn as_text(value: &AMQPValue) -> Option<&str> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

/// Whether the broker wrote this header, or acts on it.
pub(super) fn is_brokers(key: &str) -> bool {
    matches!(key, "x-death" | "x-delivery-count" | "x-acquired-count" | "CC" | "BCC")
        || key.starts_with("x-first-death-")
        || key.starts_with("x-last-death-")
        || key.starts_with("x-opt-")
}

pub(super) fn table(properties: &BasicProperties) -> impl Iterator<Item = (&str, &AMQPValue)> {
    let inner = properties.headers().as_ref().map(FieldTable::inner);
    inner.into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// A nested table's entry.
pub(super) fn entry<'a>(table: &'a FieldTable, key: &str) -> Option<&'a AMQPValue> {
    table.inner().get(key)
}
