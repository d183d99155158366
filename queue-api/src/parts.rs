//! A message taken apart, for codecs and backends.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::{MessageId, Priority, ReplyAddress};

/// The longest error text that a message or dead letter keeps, in bytes; longer ones are cut.
pub const MAX_ERROR_BYTES: usize = 4 * 1024;

/// All fields of a message, public: what codecs and backends build messages from and take them apart into.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Parts {
    /// See [`Message::id`](crate::Message::id).
    pub id: MessageId,
    /// See [`Message::kind`](crate::Message::kind).
    pub kind: Cow<'static, str>,
    /// See [`Message::schema_version`](crate::Message::schema_version).
    pub schema_version: Option<Cow<'static, str>>,
    /// See [`Message::payload`](crate::Message::payload).
    pub payload: Bytes,
    /// See [`Message::priority`](crate::Message::priority).
    pub priority: Priority,
    /// See [`Message::published_at`](crate::Message::published_at).
    pub published_at: Option<DateTime<Utc>>,
    /// See [`Message::delay`](crate::Message::delay).
    pub delay: Duration,
    /// See [`Message::not_before`](crate::Message::not_before). None on a message that was received.
    pub not_before: Option<DateTime<Utc>>,
    /// See [`Message::max_attempts`](crate::Message::max_attempts).
    pub max_attempts: Option<NonZeroU32>,
    /// See [`Message::retries`](crate::Message::retries).
    pub retries: u32,
    /// See [`Message::last_error`](crate::Message::last_error); cut to [`MAX_ERROR_BYTES`] when a message is made of it.
    pub last_error: Option<String>,
    /// See [`Message::ttl`](crate::Message::ttl).
    pub ttl: Option<Duration>,
    /// See [`Message::dedup_key`](crate::Message::dedup_key).
    pub dedup_key: Option<String>,
    /// See [`Message::correlation_id`](crate::Message::correlation_id).
    pub correlation_id: Option<String>,
    /// See [`Message::reply_to`](crate::Message::reply_to).
    pub reply_to: Option<ReplyAddress>,
    /// See [`Message::headers`](crate::Message::headers).
    pub headers: BTreeMap<String, String>,
}

impl Parts {
    /// A message with this id, priority 5 and nothing else, until its fields say otherwise.
    pub fn new(id: MessageId, payload: impl Into<Bytes>) -> Self {
        Self {
            id,
            kind: Cow::Borrowed(""),
            schema_version: None,
            payload: payload.into(),
            priority: Priority::DEFAULT,
            published_at: None,
            delay: Duration::ZERO,
            not_before: None,
            max_attempts: None,
            retries: 0,
            last_error: None,
            ttl: None,
            dedup_key: None,
            correlation_id: None,
            reply_to: None,
            headers: BTreeMap::new(),
        }
    }
}

/// An error text cut to [`MAX_ERROR_BYTES`] at a character's boundary.
pub fn cut_error(mut error: String) -> String {
    let cut = (0..=MAX_ERROR_BYTES.min(error.len())).rev().find(|&at| error.is_char_boundary(at));
    error.truncate(cut.unwrap_or(0));
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_text_is_cut_at_a_character() {
        let cut = cut_error("é".repeat(4000));
        assert_eq!(cut.len(), MAX_ERROR_BYTES);
        assert_eq!(cut_error("x".repeat(4095) + "é").len(), 4095);
    }
}
