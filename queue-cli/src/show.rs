//! Messages and dead letters for people and programs.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use comfy_table::{Table, presets};
use polyqueue::{DeadBody, DeadLetter, DeadReason, Delivery, Message, MessageId};
use serde::Serialize;

use crate::exit::{Exit, Result};

/// A payload: text where it is text.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Payload<'a> {
    Text(&'a str),
    Base64(String),
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        std::str::from_utf8(bytes).map_or_else(|_| Self::Base64(BASE64_STANDARD.encode(bytes)), Self::Text)
    }
}

/// What `consume` prints of a message: `publish --ndjson` reads it.
#[derive(Serialize)]
pub(crate) struct Line<'a> {
    id: &'a MessageId,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_version: Option<&'a str>,
    priority: u8,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<NonZeroU32>,
    published_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dedup_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a str>,
    headers: &'a BTreeMap<String, String>,
    #[serde(flatten)]
    payload: Payload<'a>,
}

impl<'a> From<&'a Delivery> for Line<'a> {
    fn from(delivery: &'a Delivery) -> Self {
        let message = &delivery.message;
        Self {
            id: message.id(),
            kind: message.kind(),
            schema_version: message.schema_version(),
            priority: message.priority().get(),
            attempt: delivery.attempt,
            max_attempts: message.max_attempts(),
            published_at: message.published_at().map(instant),
            ttl: message.ttl().map(|ttl| humantime::format_duration(ttl).to_string()),
            dedup_key: message.dedup_key(),
            correlation_id: message.correlation_id(),
            reply_to: message.reply_to().map(|address| address.as_str()),
            headers: message.headers(),
            payload: message.payload().as_ref().into(),
        }
    }
}

/// What `request` prints of a reply.
#[derive(Serialize)]
pub(crate) struct Reply<'a> {
    id: &'a MessageId,
    kind: &'a str,
    headers: &'a BTreeMap<String, String>,
    #[serde(flatten)]
    payload: Payload<'a>,
}

impl<'a> From<&'a Message> for Reply<'a> {
    fn from(reply: &'a Message) -> Self {
        Self {
            id: reply.id(),
            kind: reply.kind(),
            headers: reply.headers(),
            payload: reply.payload().as_ref().into(),
        }
    }
}

/// What `dead list -o json` prints of a dead letter.
#[derive(Serialize)]
pub(crate) struct Letter<'a> {
    id: &'a str,
    message_id: Option<&'a MessageId>,
    kind: Option<&'a str>,
    priority: Option<u8>,
    reason: DeadReason,
    error: &'a str,
    attempts: u32,
    total_attempts: u32,
    redriven: u32,
    first_published_at: Option<String>,
    died_at: String,
    consumer: Option<&'a str>,
    headers: Option<&'a BTreeMap<String, String>>,
    #[serde(flatten)]
    payload: Payload<'a>,
}

impl<'a> From<&'a DeadLetter> for Letter<'a> {
    fn from(letter: &'a DeadLetter) -> Self {
        let message = letter.message();
        let payload = match &letter.body {
            DeadBody::Message(message) => message.payload(),
            DeadBody::Raw(bytes) => bytes,
        };
        Self {
            id: letter.id.as_str(),
            message_id: message.map(|m| m.id()),
            kind: message.map(|m| m.kind()),
            priority: message.map(|m| m.priority().get()),
            reason: letter.reason,
            error: &letter.error,
            attempts: letter.attempts,
            total_attempts: letter.total_attempts,
            redriven: letter.redriven,
            first_published_at: letter.first_published_at.map(instant),
            died_at: instant(letter.died_at),
            consumer: letter.consumer.as_deref(),
            headers: message.map(|m| m.headers()),
            payload: payload.as_ref().into(),
        }
    }
}

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn instant(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// One line of JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Exit::Failed(error.to_string()))
}

/// A table with a head.
pub(crate) fn table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(head);
    table
}
