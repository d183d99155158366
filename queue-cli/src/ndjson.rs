//! One message as one line of JSON, to publish.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use polyqueue::{Bytes, Limits, Message, MessageId, Priority, ReplyAddress};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::args::{Envelope, values};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: Option<MessageId>,
    text: Option<String>,
    base64: Option<String>,
    priority: Option<i64>,
    delay: Option<String>,
    ttl: Option<String>,
    dedup_key: Option<String>,
    max_attempts: Option<u32>,
    kind: Option<String>,
    schema_version: Option<String>,
    correlation_id: Option<String>,
    reply_to: Option<String>,
    published_at: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// `consume` prints it; a message that is published has none yet.
    #[serde(rename = "attempt")]
    _attempt: Option<IgnoredAny>,
}

impl Line {
    /// What no option can say.
    fn rest(&mut self, mut message: Message) -> Result<Message, String> {
        if let Some(id) = self.id.take() {
            message = message.with_id(id);
        }
        if let Some(version) = self.schema_version.take() {
            message = message.with_schema_version(version);
        }
        if let Some(id) = self.correlation_id.take() {
            message = message.with_correlation_id(id);
        }
        if let Some(address) = self.reply_to.take() {
            let address = ReplyAddress::new(address).map_err(|error| format!("reply_to: {error}"))?;
            message = message.with_reply_to(address);
        }
        if let Some(at) = self.published_at.take() {
            let at: DateTime<Utc> = at.parse().map_err(|error| format!("published_at: {error}"))?;
            message = message.with_published_at(at);
        }
        Ok(message)
    }
}

/// The message that a line describes; what it does not say, the `envelope` says.
///
/// # Errors
/// What is wrong with the line, for people.
pub(crate) fn message(line: &[u8], envelope: &Envelope, limits: &Limits) -> Result<Message, String> {
    let mut line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let mut envelope = envelope.clone();
    if let Some(level) = line.priority {
        envelope.priority = Priority::new(level).map_err(|error| error.to_string())?;
    }
    if let Some(delay) = &line.delay {
        envelope.delay = values::duration(delay).map_err(|error| format!("delay: {error}"))?;
    }
    if let Some(ttl) = &line.ttl {
        envelope.ttl = Some(values::duration(ttl).map_err(|error| format!("ttl: {error}"))?);
    }
    envelope.dedup_key = line.dedup_key.take().or(envelope.dedup_key);
    if let Some(max) = line.max_attempts {
        envelope.max_attempts =
            Some(NonZeroU32::new(max).ok_or("max_attempts: 0 given, allowed are 1 or more")?);
    }
    if let Some(kind) = line.kind.take() {
        envelope.kind = kind;
    }
    envelope.headers.extend(std::mem::take(&mut line.headers));
    let payload = payload(line.text.take(), line.base64.take())?;
    let message = line.rest(envelope.around(payload))?;
    limits.check_message(&message).map_err(|error| error.to_string())?;
    Ok(message)
}

fn payload(text: Option<String>, base64: Option<String>) -> Result<Bytes, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into()),
        (None, Some(base64)) => {
            BASE64_STANDARD.decode(base64).map(Bytes::from).map_err(|error| format!("base64: {error}"))
        }
        (Some(_), Some(_)) => Err("both text and base64 given: one of them is the payload".into()),
        (None, None) => Err("neither text nor base64 given: one of them is the payload".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn envelope() -> Envelope {
        let cli =
            Cli::parse_from(["polyqueue", "publish", "q", "--kind", "mail", "-p", "3", "--header", "a=b"]);
        let Command::Publish(publish) = cli.command else { unreachable!("parsed as publish") };
        publish.envelope
    }

    fn parse(line: &str) -> Result<Message, String> {
        message(line.as_bytes(), &envelope(), &Limits::default())
    }

    #[test]
    fn a_line_wins_over_the_options() {
        let said =
            parse(r#"{"text":"hi","priority":9,"delay":"150ms","ttl":"1m","dedup_key":"k","max_attempts":2,"headers":{"c":"d"}}"#)
                .unwrap();
        assert_eq!((said.priority().get(), said.delay().as_millis(), said.kind()), (9, 150, "mail"));
        assert_eq!(said.max_attempts().map(NonZeroU32::get), Some(2));
        assert_eq!((said.ttl().map(|ttl| ttl.as_secs()), said.dedup_key()), (Some(60), Some("k")));
        assert_eq!(said.headers().len(), 2);
        assert_eq!(parse(r#"{"base64":"/w=="}"#).unwrap().payload().as_ref(), b"\xff");
    }

    #[test]
    fn what_consume_prints_is_carried_and_its_attempt_is_not() {
        let at: DateTime<Utc> = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let sent = Message::new("hi")
            .with_id(MessageId::new("a1").unwrap())
            .with_kind("mail")
            .with_schema_version("2")
            .with_priority(Priority::new(8).unwrap())
            .with_max_attempts(NonZeroU32::MIN)
            .with_ttl(std::time::Duration::from_millis(3_600_500))
            .with_dedup_key("k")
            .with_correlation_id("c")
            .with_reply_to(ReplyAddress::new("r").unwrap())
            .with_published_at(at)
            .with_header("a", "b");
        let queue = polyqueue::QueueName::from_static("q");
        let receipt = polyqueue::Receipt::from_words([0; 3]);
        let now = tokio::time::Instant::now();
        let delivery = polyqueue::Delivery::new(queue, sent.clone(), 3, 4, receipt, now);
        let line = crate::show::json(&crate::show::Line::from(&delivery)).unwrap();
        assert_eq!(parse(&line).unwrap(), sent);
    }

    #[test]
    fn a_bad_line_says_what_is_wrong() {
        for (line, says) in [
            ("{", "EOF"),
            (r#"{"text":"a","base64":"YQ=="}"#, "both"),
            (r#"{"kind":"k"}"#, "neither"),
            (r#"{"text":"a","priority":11}"#, "1 to 10"),
            (r#"{"text":"a","delay":"soon"}"#, "delay"),
            (r#"{"text":"a","ttl":"0s"}"#, "ttl"),
            (r#"{"text":"a","max_attempts":0}"#, "max_attempts"),
            (r#"{"text":"a","colour":"red"}"#, "colour"),
            (r#"{"text":"a","id":""}"#, "id"),
            (r#"{"text":"a","published_at":"soon"}"#, "published_at"),
            (r#"{"base64":"!"}"#, "base64"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
