//! A message: an envelope around opaque bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::{Error, Result};

/// The longest id of a message, in bytes.
pub const MAX_ID_BYTES: usize = 128;
/// The longest error text that a message or dead letter keeps, in bytes; longer ones are cut.
pub const MAX_ERROR_BYTES: usize = 4 * 1024;

/// Identifies a message; kept over retries, dead letters and redrive. A UUID v7, which sorts by time, unless given.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(Arc<str>);

impl MessageId {
    /// An id of your own.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless it has 1 to 128 bytes and no control characters.
    pub fn new(id: impl AsRef<str>) -> Result<Self> {
        let id = id.as_ref();
        if id.is_empty() || id.len() > MAX_ID_BYTES || id.chars().any(char::is_control) {
            let allowed =
                format!("{} bytes given, allowed are 1 to 128 without control characters", id.len());
            return Err(Error::invalid("message id", allowed));
        }
        Ok(Self(id.into()))
    }

    /// A fresh UUID v7.
    pub fn random() -> Self {
        let mut buffer = Uuid::encode_buffer();
        Self(Arc::from(&*Uuid::now_v7().as_hyphenated().encode_lower(&mut buffer)))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for MessageId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// How urgent a message is: 1 to 10, 10 first; 5 unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Priority(u8);

impl Priority {
    /// 1.
    pub const LOWEST: Self = Self(1);
    /// 5.
    pub const DEFAULT: Self = Self(5);
    /// 10.
    pub const HIGHEST: Self = Self(10);

    /// A priority from a number.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless it is within 1 to 10.
    pub fn new(level: impl Into<i64>) -> Result<Self> {
        match level.into() {
            level @ 1..=10 => Ok(Self(level as u8)),
            level => Err(Error::invalid("priority", format!("{level} given, allowed are 1 to 10"))),
        }
    }

    /// The number, 1 to 10.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A type that travels as the JSON payload of a message.
pub trait Payload: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The message's kind: what a [`Worker`](crate::Worker) chooses the handler by. At most 200 bytes.
    const KIND: &'static str;
    /// The version of this payload's schema, `major.minor.patch`; another major version at the reader is warned of.
    const VERSION: &'static str = "1.0.0";
}

/// An envelope around opaque bytes.
///
/// What the sender chooses has a `with_…` method; what the system fills in (`published_at`, `retries`,
/// `last_error`) is read only, and backends go through [`Parts`].
#[derive(Clone, PartialEq)]
pub struct Message {
    id: MessageId,
    kind: Cow<'static, str>,
    payload: Bytes,
    priority: Priority,
    published_at: Option<DateTime<Utc>>,
    delay: Duration,
    rare: Option<Box<Rare>>,
}

/// What most messages do not have, kept out of the way so that a plain message stays small.
#[derive(Clone, Default, PartialEq)]
struct Rare {
    schema_version: Option<Cow<'static, str>>,
    max_attempts: Option<NonZeroU32>,
    retries: u32,
    last_error: Option<String>,
    correlation_id: Option<String>,
    headers: BTreeMap<String, String>,
}

/// All fields of a message, public: what codecs and backends build messages from and take them apart into.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// See [`Message::id`].
    pub id: MessageId,
    /// See [`Message::kind`].
    pub kind: Cow<'static, str>,
    /// See [`Message::schema_version`].
    pub schema_version: Option<Cow<'static, str>>,
    /// See [`Message::payload`].
    pub payload: Bytes,
    /// See [`Message::priority`].
    pub priority: Priority,
    /// See [`Message::published_at`].
    pub published_at: Option<DateTime<Utc>>,
    /// See [`Message::delay`].
    pub delay: Duration,
    /// See [`Message::max_attempts`].
    pub max_attempts: Option<NonZeroU32>,
    /// See [`Message::retries`].
    pub retries: u32,
    /// See [`Message::last_error`]; cut to [`MAX_ERROR_BYTES`] when a message is made of it.
    pub last_error: Option<String>,
    /// See [`Message::correlation_id`].
    pub correlation_id: Option<String>,
    /// See [`Message::headers`].
    pub headers: BTreeMap<String, String>,
}

static NO_RARE: Rare = Rare {
    schema_version: None,
    max_attempts: None,
    retries: 0,
    last_error: None,
    correlation_id: None,
    headers: BTreeMap::new(),
};

impl Message {
    /// A message with a fresh id, priority 5, no kind and no delay.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            id: MessageId::random(),
            kind: Cow::Borrowed(""),
            payload: payload.into(),
            priority: Priority::DEFAULT,
            published_at: None,
            delay: Duration::ZERO,
            rare: None,
        }
    }

    /// A typed payload as JSON, with its kind and schema version.
    ///
    /// # Errors
    /// [`Error::Codec`] when it cannot be written as JSON.
    pub fn of<T: Payload>(payload: &T) -> Result<Self> {
        let json = serde_json::to_vec(payload).map_err(|e| Error::codec(T::KIND, e))?;
        Ok(Self::new(json).with_kind(T::KIND).with_schema_version(T::VERSION))
    }

    /// Reads the payload as JSON.
    ///
    /// # Errors
    /// [`Error::Codec`] when the bytes are not a `T`. The kind is not compared.
    pub fn decode<T: Payload>(&self) -> Result<T> {
        serde_json::from_slice(&self.payload).map_err(|e| Error::codec(self.kind.clone(), e))
    }

    /// The same message with an id of your own.
    #[must_use]
    pub fn with_id(mut self, id: MessageId) -> Self {
        self.id = id;
        self
    }

    /// The same message with a kind, at most 200 bytes.
    #[must_use]
    pub fn with_kind(mut self, kind: impl Into<Cow<'static, str>>) -> Self {
        self.kind = kind.into();
        self
    }

    /// The same message with the version of its payload's schema, at most 200 bytes.
    #[must_use]
    pub fn with_schema_version(mut self, version: impl Into<Cow<'static, str>>) -> Self {
        self.rare_mut().schema_version = Some(version.into());
        self
    }

    /// The same message with another priority.
    #[must_use]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// The same message, not handed out before `delay` has passed since it was published; at most 365 days.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same message, not handed out before `at`. Turned into a delay now, by this machine's clock; the past is now.
    #[must_use]
    pub fn not_before(self, at: DateTime<Utc>) -> Self {
        let delay = (at - Utc::now()).to_std().unwrap_or_default();
        self.with_delay(delay)
    }

    /// The same message with a maximum of attempts that wins over the subscription's.
    #[must_use]
    pub fn with_max_attempts(mut self, max: NonZeroU32) -> Self {
        self.rare_mut().max_attempts = Some(max);
        self
    }

    /// The same message with a correlation id, at most 200 bytes.
    #[must_use]
    pub fn with_correlation_id(mut self, id: impl Into<String>) -> Self {
        self.rare_mut().correlation_id = Some(id.into());
        self
    }

    /// The same message with one more header.
    #[must_use]
    pub fn with_header(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers_mut().insert(key.into(), value.into());
        self
    }

    /// The same message with another publish time; otherwise the backend fills in the sender's clock.
    #[must_use]
    pub fn with_published_at(mut self, at: DateTime<Utc>) -> Self {
        self.published_at = Some(at);
        self
    }

    /// Identifies the message; see [`MessageId`].
    pub fn id(&self) -> &MessageId {
        &self.id
    }

    /// What kind of message it is; empty when nobody said.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The version of the payload's schema, when it has one.
    pub fn schema_version(&self) -> Option<&str> {
        self.rare().schema_version.as_deref()
    }

    /// The opaque bytes.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// How urgent it is.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// When it was published, by the sender's clock, in whole milliseconds once it went through a broker; `None`
    /// before, and where a foreign client did not say.
    pub fn published_at(&self) -> Option<DateTime<Utc>> {
        self.published_at
    }

    /// How long after its publication it becomes ready. Zero on a message that was received.
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// The message's own maximum of attempts.
    pub fn max_attempts(&self) -> Option<NonZeroU32> {
        self.rare().max_attempts
    }

    /// How many times a handler's [`Retry`](crate::Verdict::Retry) sent it back.
    pub fn retries(&self) -> u32 {
        self.rare().retries
    }

    /// The error text of the last failure, at most 4 KiB.
    pub fn last_error(&self) -> Option<&str> {
        self.rare().last_error.as_deref()
    }

    /// Links messages that belong together.
    pub fn correlation_id(&self) -> Option<&str> {
        self.rare().correlation_id.as_deref()
    }

    /// Free text by free key, at most 256 entries and 64 KiB.
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.rare().headers
    }

    /// The headers, to change: for layers.
    pub fn headers_mut(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.rare_mut().headers
    }

    /// Replaces the payload: for layers.
    pub fn set_payload(&mut self, payload: impl Into<Bytes>) {
        self.payload = payload.into();
    }

    /// Takes the message apart.
    pub fn into_parts(self) -> Parts {
        let rare = self.rare.map(|rare| *rare).unwrap_or_default();
        Parts {
            id: self.id,
            kind: self.kind,
            schema_version: rare.schema_version,
            payload: self.payload,
            priority: self.priority,
            published_at: self.published_at,
            delay: self.delay,
            max_attempts: rare.max_attempts,
            retries: rare.retries,
            last_error: rare.last_error,
            correlation_id: rare.correlation_id,
            headers: rare.headers,
        }
    }

    fn rare(&self) -> &Rare {
        self.rare.as_deref().unwrap_or(&NO_RARE)
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

impl From<Parts> for Message {
    fn from(parts: Parts) -> Self {
        let rare = Rare {
            schema_version: parts.schema_version,
            max_attempts: parts.max_attempts,
            retries: parts.retries,
            last_error: parts.last_error.map(cut_error),
            correlation_id: parts.correlation_id,
            headers: parts.headers,
        };
        Self {
            id: parts.id,
            kind: parts.kind,
            payload: parts.payload,
            priority: parts.priority,
            published_at: parts.published_at,
            delay: parts.delay,
            rare: (rare != NO_RARE).then(|| Box::new(rare)),
        }
    }
}

/// An error text cut to [`MAX_ERROR_BYTES`] at a character's boundary.
pub fn cut_error(mut error: String) -> String {
    let cut = (0..=MAX_ERROR_BYTES.min(error.len())).rev().find(|&at| error.is_char_boundary(at));
    error.truncate(cut.unwrap_or(0));
    error
}

/// Shows the envelope and the payload's length, never the payload.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Message");
        shown.field("id", &self.id).field("kind", &self.kind).field("priority", &self.priority.0);
        shown.field("payload_bytes", &self.payload.len()).field("published_at", &self.published_at);
        if !self.delay.is_zero() {
            shown.field("delay", &self.delay);
        }
        if self.rare.is_some() {
            shown.field("retries", &self.retries()).field("headers", &self.headers().len());
        }
        shown.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_back_is_the_same_message() {
        let message = Message::new("body")
            .with_kind("mail")
            .with_priority(Priority::new(9).unwrap())
            .with_delay(Duration::from_secs(3))
            .with_max_attempts(NonZeroU32::MIN)
            .with_correlation_id("c")
            .with_header("k", "v");
        assert_eq!(Message::from(message.clone().into_parts()), message);
        let plain = Message::new("body");
        assert_eq!(Message::from(plain.clone().into_parts()), plain);
    }

    #[test]
    fn priorities_outside_1_to_10_name_the_range() {
        for level in [0_i64, 11, -1, 255] {
            assert!(Priority::new(level).unwrap_err().to_string().contains("1 to 10"));
        }
        assert_eq!(Message::new("").priority().get(), 5);
    }

    #[test]
    fn an_error_text_is_cut_at_a_character() {
        let cut = cut_error("é".repeat(4000));
        assert_eq!(cut.len(), MAX_ERROR_BYTES);
        assert_eq!(cut_error("x".repeat(4095) + "é").len(), 4095);
    }

    #[test]
    fn a_time_in_the_past_is_no_delay() {
        let past = Message::new("").not_before(Utc::now() - chrono::TimeDelta::hours(1));
        assert_eq!(past.delay(), Duration::ZERO);
    }

    #[test]
    fn debug_never_shows_the_payload() {
        assert!(!format!("{:?}", Message::new("secret")).contains("secret"));
    }
}
