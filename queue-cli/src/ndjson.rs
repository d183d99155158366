//! One message as one line of JSON, to publish.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use polyqueue::{Bytes, Limits, Message, Priority};
use serde::Deserialize;

use crate::args::{Envelope, values};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    text: Option<String>,
    base64: Option<String>,
    priority: Option<i64>,
    delay: Option<String>,
    ttl: Option<String>,
    dedup_key: Option<String>,
    max_attempts: Option<u32>,
    kind: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// The message that a line describes; what it does not say, the `envelope` says.
///
/// # Errors
/// What is wrong with the line, for people.
pub(crate) fn message(line: &[u8], envelope: &Envelope, limits: &Limits) -> Result<Message, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
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
    envelope.dedup_key = line.dedup_key.or(envelope.dedup_key);
    if let Some(max) = line.max_attempts {
        envelope.max_attempts =
            Some(NonZeroU32::new(max).ok_or("max_attempts: 0 given, allowed are 1 or more")?);
    }
    if let Some(kind) = line.kind {
        envelope.kind = kind;
    }
    envelope.headers.extend(line.headers);
    let message = envelope.around(payload(line.text, line.base64)?);
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
            (r#"{"base64":"!"}"#, "base64"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
