//! A message: an envelope around opaque bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::parts::Parts;
use crate::{Error, MessageId, Payload, Priority, ReplyAddress, Result, json};

/// An envelope around opaque bytes.
///
/// What the sender chooses has a `with_…` method; what the system fills in (`published_at`, `retries`,
/// `last_error`) is read only, and backends go through [`Parts`].
///
/// ```
/// use std::time::Duration;
/// use polyqueue::{Message, Priority};
///
/// let message = Message::new("any bytes")
///     .with_kind("reminder")
///     .with_priority(Priority::HIGHEST)
///     .with_delay(Duration::from_secs(60))
///     .with_ttl(Duration::from_secs(3600))
///     .with_header("tenant", "a");
/// assert_eq!((message.kind(), message.headers()["tenant"].as_str()), ("reminder", "a"));
/// assert_eq!(message.published_at(), None); // nobody has published it yet
/// ```
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
    not_before: Option<DateTime<Utc>>,
    max_attempts: Option<NonZeroU32>,
    retries: u32,
    last_error: Option<String>,
    ttl: Option<Duration>,
    dedup_key: Option<String>,
    correlation_id: Option<String>,
    reply_to: Option<ReplyAddress>,
    headers: BTreeMap<String, String>,
}

static NO_RARE: Rare = Rare {
    schema_version: None,
    not_before: None,
    max_attempts: None,
    retries: 0,
    last_error: None,
    ttl: None,
    dedup_key: None,
    correlation_id: None,
    reply_to: None,
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
    /// As [`Message::json`].
    pub fn of<T: Payload>(payload: &T) -> Result<Self> {
        Ok(Self::json(T::KIND, payload)?.with_schema_version(T::VERSION))
    }

    /// Any value as JSON, of a kind that is said here: for a type that is no [`Payload`].
    ///
    /// ```
    /// # use polyqueue::Message;
    /// let message = Message::json("coordinates", &[1.5, 2.5])?;
    /// assert_eq!(message.decode::<(f64, f64)>()?, (1.5, 2.5));
    /// assert!(Message::json("coordinates", &[1.5, f64::NAN]).is_err());
    /// let value = serde_json::json!({"x": f64::NAN}); // not seen here any more
    /// assert_eq!(Message::json("coordinates", &value)?.payload(), r#"{"x":null}"#);
    /// # Ok::<_, polyqueue::Error>(())
    /// ```
    ///
    /// A [`serde_json::Value`] cannot hold NaN or an infinity: `json!({"x": f64::NAN})` is `{"x": null}` before it comes here, and is
    /// sent so. Give it a type of your own, or a list as above, where that matters.
    ///
    /// # Errors
    /// [`Error::Invalid`] for NaN or an infinity, which JSON does not have; [`Error::Codec`] when it cannot be written as JSON
    /// otherwise.
    pub fn json<T: Serialize + ?Sized>(kind: impl Into<Cow<'static, str>>, payload: &T) -> Result<Self> {
        let kind = kind.into();
        Ok(Self::new(json::write(&kind, payload)?).with_kind(kind))
    }

    /// Reads the payload as JSON, into a type that may borrow from it.
    ///
    /// # Errors
    /// [`Error::Codec`] when the bytes are not a `T`. The kind is not compared.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
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

    /// The same message, not handed out before `at`. Turned into a delay when it is published, by the clock of the handle; the
    /// past is now. With a delay, too, the later counts.
    #[must_use]
    pub fn not_before(mut self, at: DateTime<Utc>) -> Self {
        self.rare_mut().not_before = Some(at);
        self
    }

    /// The same message with a maximum of attempts that wins over the subscription's.
    #[must_use]
    pub fn with_max_attempts(mut self, max: NonZeroU32) -> Self {
        self.rare_mut().max_attempts = Some(max);
        self
    }

    /// The same message, never handed out once `ttl` has passed since it was published: then it becomes a dead letter,
    /// `expired`. A lease that is running is not ended. More than the delay, at most 365 days.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.rare_mut().ttl = Some(ttl);
        self
    }

    /// The same message with a key under which its queue, declared with [`QueueSpec::dedup`](crate::QueueSpec::dedup), stores
    /// one message only; 1 to 200 bytes.
    #[must_use]
    pub fn with_dedup_key(mut self, key: impl Into<String>) -> Self {
        self.rare_mut().dedup_key = Some(key.into());
        self
    }

    /// The same message with an address where its reply is awaited.
    #[must_use]
    pub fn with_reply_to(mut self, address: ReplyAddress) -> Self {
        self.rare_mut().reply_to = Some(address);
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

    /// How long after its publication it becomes ready, as it was said. Zero on a message that was received.
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// How long it is until it becomes ready, [`Message::not_before`] included, when it is published `now`.
    pub fn delay_from(&self, now: DateTime<Utc>) -> Duration {
        let until = self.rare().not_before.and_then(|at| (at - now).to_std().ok());
        self.delay.max(until.unwrap_or_default())
    }

    /// Turns the time when it becomes ready into a delay; whether it had one.
    pub(crate) fn begin_delay(&mut self, now: DateTime<Utc>) -> bool {
        self.delay = self.delay_from(now);
        let had = self.rare.as_mut().and_then(|rare| rare.not_before.take()).is_some();
        self.rare.take_if(|rare| had && **rare == NO_RARE);
        had
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

    /// How long after its publication it may still be handed out; for ever unless set.
    pub fn ttl(&self) -> Option<Duration> {
        self.rare().ttl
    }

    /// The key under which its queue stores one message only.
    pub fn dedup_key(&self) -> Option<&str> {
        self.rare().dedup_key.as_deref()
    }

    /// Where its reply is awaited.
    pub fn reply_to(&self) -> Option<&ReplyAddress> {
        self.rare().reply_to.as_ref()
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
            not_before: rare.not_before,
            max_attempts: rare.max_attempts,
            retries: rare.retries,
            last_error: rare.last_error,
            ttl: rare.ttl,
            dedup_key: rare.dedup_key,
            correlation_id: rare.correlation_id,
            reply_to: rare.reply_to,
            headers: rare.headers,
        }
    }

    /// Whether it has nothing of what most messages do not have.
    pub(crate) fn is_plain(&self) -> bool {
        self.rare.is_none()
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
            not_before: parts.not_before,
            max_attempts: parts.max_attempts,
            retries: parts.retries,
            last_error: parts.last_error.map(crate::parts::cut_error),
            ttl: parts.ttl,
            dedup_key: parts.dedup_key,
            correlation_id: parts.correlation_id,
            reply_to: parts.reply_to,
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

/// Shows the envelope and the payload's length, never the payload.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Message");
        shown.field("id", &self.id).field("kind", &self.kind).field("priority", &self.priority.get());
        shown.field("payload_bytes", &self.payload.len()).field("published_at", &self.published_at);
        if !self.delay.is_zero() {
            shown.field("delay", &self.delay);
        }
        if let Some(at) = self.rare().not_before {
            shown.field("not_before", &at);
        }
        if self.rare.is_some() {
            shown.field("retries", &self.retries()).field("headers", &self.headers().len());
        }
        shown.finish_non_exhaustive()
    }
}
