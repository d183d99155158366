//! Properties and headers as a message: ours, or anybody's.

use std::num::NonZeroU32;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lapin::BasicProperties;
use lapin::types::AMQPValue;
use polyqueue::backend::Parts;
use polyqueue::{MAX_ERROR_BYTES, Message, MessageId, Priority, ReplyAddress};

use tokio::time::Instant;

use super::boot::before;
use super::expiry::Expiry;
use super::headers;
use super::properties::{BORN, Raw, SUBSTITUTE, VERSION, as_number, as_text, key, table};
use super::terms::expiration;

/// A message and what we count about it.
#[derive(Clone, Debug)]
pub(crate) struct Decoded {
    pub(crate) message: Message,
    pub(crate) lives: AttemptHistory,
    /// Its time to live, when it has one.
    pub(crate) expiry: Option<Expiry>,
}

/// What we count about a message, beside its envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AttemptHistory {
    /// The attempt that this copy is for.
    pub(crate) attempt: u32,
    /// How often it was redriven.
    pub(crate) redriven: u32,
    /// Attempts of its former lives.
    pub(crate) former: u32,
    /// The greatest maximum under which one of this life failed; 0 is none.
    pub(crate) allowed: u32,
}

/// Reads a message. A foreign client's message without any header of ours is one.
///
/// # Errors
/// What is unreadable: a header of ours, or the version of the format.
pub(crate) fn decode(raw: &Raw) -> Result<Decoded, String> {
    let properties = &raw.properties;
    if let Some(what) = substituted(properties) {
        return Err(format!("{what} is not UTF-8"));
    }
    let ours = Ours::read(properties)?;
    let headers = headers::read(table(properties)).ok_or_else(|| unreadable(key::PACKED))?;
    let ttl = ours.ttl.or_else(|| expiration(properties));
    let watched = properties.expiration().is_some();
    let expiry = ttl.map(|ttl| Expiry { ttl, at: ours.expires, watched, came: Instant::now() });
    let mut parts = Parts::new(id(raw), raw.body.clone());
    parts.kind = properties.kind().as_ref().map_or("", |kind| kind.as_str()).to_owned().into();
    parts.schema_version = ours.schema.map(Into::into);
    parts.priority = ours.priority.unwrap_or_else(|| priority(properties));
    parts.published_at = ours.published_at.or_else(|| published(properties)).or_else(|| stamped(properties));
    parts.ttl = ttl;
    parts.dedup_key = ours.dedup_key;
    parts.reply_to = reply_to(properties);
    parts.max_attempts = ours.max_attempts;
    parts.retries = ours.retries;
    parts.last_error = ours.error;
    parts.correlation_id = properties.correlation_id().as_ref().map(ToString::to_string);
    parts.headers = headers;
    Ok(Decoded { message: parts.into(), lives: ours.lives, expiry })
}

/// The headers that are ours.
#[derive(Default)]
struct Ours {
    published_at: Option<DateTime<Utc>>,
    schema: Option<String>,
    max_attempts: Option<NonZeroU32>,
    retries: u32,
    error: Option<String>,
    ttl: Option<Duration>,
    expires: Option<i64>,
    priority: Option<Priority>,
    dedup_key: Option<String>,
    lives: AttemptHistory,
}

impl Ours {
    fn read(properties: &BasicProperties) -> Result<Self, String> {
        let mut ours =
            Self { lives: AttemptHistory { attempt: 1, ..AttemptHistory::default() }, ..Self::default() };
        for (key, value) in table(properties) {
            ours.take(key, value).ok_or_else(|| unreadable(key))?;
        }
        Ok(ours)
    }

    /// Unknown headers under our prefix are a later release's: skipped, and kept when the message is published again.
    fn take(&mut self, key: &str, value: &AMQPValue) -> Option<()> {
        match key {
            key::VERSION => (as_number(value)? == VERSION).then_some(())?,
            key::ATTEMPT => self.lives.attempt = count(value).filter(|attempt| *attempt > 0)?,
            key::REDRIVEN => self.lives.redriven = count(value)?,
            key::FORMER => self.lives.former = count(value)?,
            key::ALLOWED => self.lives.allowed = count(value)?,
            key::PUBLISHED => {
                self.published_at = Some(DateTime::from_timestamp_millis(as_number(value)?)?);
            }
            key::SCHEMA => self.schema = Some(as_text(value)?.to_owned()),
            key::MAX_ATTEMPTS => self.max_attempts = Some(NonZeroU32::new(count(value)?)?),
            key::RETRIES => self.retries = count(value)?,
            key::ERROR => {
                self.error = Some(as_text(value).filter(|text| text.len() <= MAX_ERROR_BYTES)?.to_owned());
            }
            key::TTL => self.ttl = Some(Duration::from_millis(u64::try_from(as_number(value)?).ok()?)),
            key::EXPIRES => self.expires = Some(as_number(value)?),
            key::PRIORITY => self.priority = Some(Priority::new(as_number(value)?).ok()?),
            key::DEDUP => self.dedup_key = Some(as_text(value)?.to_owned()),
            _ => {}
        }
        Some(())
    }
}

/// What of a foreign message was no text, and was made one on its way in.
fn substituted(properties: &BasicProperties) -> Option<String> {
    let is_bad = |text: &str| text.as_bytes().contains(&SUBSTITUTE);
    let texts = [
        ("the property type", properties.kind()),
        ("the property correlation_id", properties.correlation_id()),
        ("the property message_id", properties.message_id()),
        ("the property reply_to", properties.reply_to()),
        ("the property app_id", properties.app_id()),
    ];
    let bad = texts.into_iter().find(|(_, text)| text.as_ref().is_some_and(|text| is_bad(text.as_str())));
    let header = || table(properties).any(|(key, _)| is_bad(key)).then_some("the key of a header");
    let bad = bad.map(|(what, _)| what).or_else(header)?;
    // This library's own may hold that character.
    published(properties).is_none().then(|| bad.to_owned())
}

fn unreadable(key: &str) -> String {
    match key {
        key::VERSION => format!("the wire format's version in {key} is not {VERSION}"),
        _ => format!("the header {key} cannot be read"),
    }
}

fn count(value: &AMQPValue) -> Option<u32> {
    u32::try_from(as_number(value)?).ok()
}

/// As the broker has it; 5 where nobody said.
fn priority(properties: &BasicProperties) -> Priority {
    let level = properties.priority().map(|level| i64::from(level.clamp(1, 10)));
    level.and_then(|level| Priority::new(level).ok()).unwrap_or_default()
}

/// Where a reply is awaited, when that can be an address.
fn reply_to(properties: &BasicProperties) -> Option<ReplyAddress> {
    properties.reply_to().as_ref().and_then(|address| ReplyAddress::new(address.as_str()).ok())
}

/// When this library first published it: the timestamp, and the milliseconds that `app_id` says.
fn published(properties: &BasicProperties) -> Option<DateTime<Utc>> {
    let app = properties.app_id().as_ref()?;
    let millis: u32 = before(app.as_str().strip_prefix(BORN)?).parse().ok()?;
    let seconds = i64::try_from((*properties.timestamp())?).ok()?;
    DateTime::from_timestamp(seconds, millis.checked_mul(1_000_000)?)
}

/// The AMQP timestamp, in seconds.
fn stamped(properties: &BasicProperties) -> Option<DateTime<Utc>> {
    let seconds = i64::try_from((*properties.timestamp())?).ok()?;
    DateTime::from_timestamp(seconds, 0)
}

/// The message's id; for a foreign message without one, made of what it holds, so that it is the same at every hand-out.
fn id(raw: &Raw) -> MessageId {
    let given = raw.properties.message_id().as_ref().and_then(|id| MessageId::new(id.as_str()).ok());
    given.unwrap_or_else(|| made_of(raw))
}

fn made_of(raw: &Raw) -> MessageId {
    let mut hash = super::hash::Hash::new();
    hash.add(&raw.body);
    let properties = &raw.properties;
    for text in [properties.message_id(), properties.kind(), properties.correlation_id(), properties.app_id()]
    {
        hash.add(text.as_ref().map_or("", |text| text.as_str()).as_bytes());
    }
    hash.add(&properties.timestamp().unwrap_or_default().to_be_bytes());
    MessageId::new(format!("foreign-{:032x}", hash.0)).unwrap_or_else(|_| MessageId::random())
}

#[cfg(test)]
mod tests {
    use super::super::encode::encode;
    use super::super::properties::{number, text};
    use super::*;
    use bytes::Bytes;
    use lapin::types::FieldTable;

    fn raw(properties: BasicProperties) -> Raw {
        Raw { properties, body: Bytes::from_static(b"body") }
    }

    fn with(key: &str, value: AMQPValue) -> Raw {
        let mut table = FieldTable::default();
        table.insert(key.into(), value);
        raw(BasicProperties::default().with_headers(table))
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let message = Message::new("body")
            .with_kind("mail")
            .with_schema_version("2.1.0")
            .with_priority(Priority::HIGHEST)
            .with_max_attempts(NonZeroU32::new(7).unwrap())
            .with_correlation_id("")
            .with_header("x-death", "mine")
            .with_header("plain", "")
            .with_published_at(DateTime::from_timestamp_millis(1_700_000_000_123).unwrap());
        let decoded = decode(&raw(encode(&message, 1_700_000_000_123))).unwrap();
        assert_eq!(decoded.message, message);
        assert_eq!(decoded.lives, AttemptHistory { attempt: 1, ..AttemptHistory::default() });
    }

    #[test]
    fn a_foreign_message_is_a_message() {
        let foreign = raw(BasicProperties::default());
        let decoded = decode(&foreign).unwrap();
        assert_eq!(decoded.message.priority(), Priority::DEFAULT);
        assert_eq!((decoded.message.kind(), decoded.message.published_at()), ("", None));
        assert_eq!(decoded.message.id(), decode(&foreign).unwrap().message.id());
        let other = Raw { body: Bytes::from_static(b"other"), ..foreign.clone() };
        assert_ne!(decode(&other).unwrap().message.id(), decoded.message.id());
    }

    #[test]
    fn what_a_foreign_client_says_counts() {
        let foreign = BasicProperties::default()
            .with_message_id("mine".into())
            .with_priority(200)
            .with_type("k".into())
            .with_timestamp(1_700_000_000);
        let message = decode(&raw(foreign)).unwrap().message;
        assert_eq!((message.id().as_str(), message.priority().get(), message.kind()), ("mine", 10, "k"));
        assert_eq!(message.published_at().unwrap().timestamp(), 1_700_000_000);
    }

    #[test]
    fn an_application_that_is_not_ours_says_nothing_of_the_time() {
        for (app, millis) in
            [("pq@123", 5123), ("pq@soon", 5000), ("pq@4294967295", 5000), ("polyqueue", 5000), ("123", 5000)]
        {
            let properties = BasicProperties::default().with_timestamp(5).with_app_id(app.into());
            let message = decode(&raw(properties.clone())).unwrap().message;
            assert_eq!(message.published_at().unwrap().timestamp_millis(), millis, "{app}");
            let mut headers = FieldTable::default();
            headers.insert(key::PUBLISHED.into(), number(8456));
            let message = decode(&raw(properties.with_headers(headers))).unwrap().message;
            assert_eq!(message.published_at().unwrap().timestamp_millis(), 8456, "{app}");
        }
    }

    #[test]
    fn the_time_of_publishing_is_told_to_the_millisecond() {
        for published in [0, 7, 1_700_000_000_001, 1_700_000_000_999] {
            let read = decode(&raw(encode(&Message::new("body"), published))).unwrap().message;
            assert_eq!(read.published_at().unwrap().timestamp_millis(), published);
        }
    }

    #[test]
    fn a_plain_message_needs_no_headers() {
        assert_eq!(encode(&Message::new("body"), 7).headers(), &None);
        assert!(encode(&Message::new("body").with_header("a", "b"), 7).headers().is_some());
    }

    #[test]
    fn numbers_of_every_width_are_numbers() {
        let widths = [AMQPValue::ShortShortUInt(3), AMQPValue::LongInt(3), AMQPValue::LongLongInt(3)];
        for value in widths {
            assert_eq!(decode(&with(key::ATTEMPT, value)).unwrap().lives.attempt, 3);
        }
    }

    #[test]
    fn what_of_ours_is_unreadable_is_named() {
        for (key, value) in [
            (key::VERSION, number(2)),
            (key::VERSION, text("1")),
            (key::ATTEMPT, number(0)),
            (key::ATTEMPT, text("one")),
            (key::MAX_ATTEMPTS, number(-1)),
            (key::PUBLISHED, number(i64::MAX)),
            (key::ERROR, text(vec![0xff])),
            (key::PACKED, number(1)),
        ] {
            let error = decode(&with(key, value)).unwrap_err();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn what_is_no_text_is_set_aside_and_ours_may_hold_anything() {
        let kind = |text: &str| BasicProperties::default().with_type(text.into());
        assert!(decode(&raw(kind("a\u{1a}"))).unwrap_err().contains("type"));
        assert!(decode(&with("k\u{1a}", text("v"))).unwrap_err().contains("key"));
        let ours = Message::new("body").with_kind("a\u{1a}");
        assert_eq!(decode(&raw(encode(&ours, 7))).unwrap().message.kind(), "a\u{1a}");
    }

    #[test]
    fn a_header_of_a_later_release_is_skipped() {
        let message = decode(&with("x-pq-later", number(1))).unwrap().message;
        assert!(message.headers().is_empty());
    }
}
