//! What a message asks for beyond its delivery: a time to live, a dedup key, a reply.

use chrono::{DateTime, Utc};
use lapin::BasicProperties;
use polyqueue::Message;

use super::{key, number, text};

/// The properties with what the message asks for. The broker itself looks after the time to live of what goes straight to
/// its queue; what waits in the cascade must not expire there, so its readers compare the time that is written on it.
pub(crate) fn with_terms(
    mut properties: BasicProperties,
    message: &Message,
    now: DateTime<Utc>,
) -> BasicProperties {
    if let Some(address) = message.reply_to() {
        properties = properties.with_reply_to(address.as_str().into());
    }
    if message.ttl().is_none() && message.dedup_key().is_none() {
        return properties;
    }
    let mut headers = properties.headers().clone().unwrap_or_default();
    if let Some(dedup_key) = message.dedup_key() {
        headers.insert(key::DEDUP.into(), text(dedup_key));
    }
    if let Some(ttl) = message.ttl() {
        let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        headers.insert(key::TTL.into(), number(ttl));
        headers.insert(key::EXPIRES.into(), number(now.timestamp_millis().saturating_add(ttl)));
        if message.delay().is_zero() {
            properties = properties.with_expiration(ttl.to_string().into());
        }
    }
    properties.with_headers(headers)
}
