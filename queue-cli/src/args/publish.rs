//! What can be typed about messages to send.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use polyqueue::{Bytes, Destination, Message, Priority, QueueName, RoutingKey};

use super::values::{duration, header, priority};
use crate::exit::{Exit, Result};

#[derive(Debug, Args)]
pub(crate) struct Publish {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) envelope: Envelope,
    /// How long a queue that is declared now remembers dedup keys; 5m when --dedup-key is given.
    #[arg(long, value_parser = duration)]
    pub(crate) dedup_window: Option<Duration>,
    /// Read one JSON object a line from standard input: text or base64, and optionally id, kind, priority, delay, ttl, dedup_key,
    /// max_attempts, headers, schema_version, correlation_id, reply_to, published_at; what `consume` prints is read, its
    /// attempt ignored. What a line does not say, the options say.
    #[arg(long, conflicts_with = "count")]
    pub(crate) ndjson: bool,
    /// Publish this many copies.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Request {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) envelope: Envelope,
    /// How long to wait for replies.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// End after this many replies.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) replies: u16,
}

/// A queue or a topic, and a payload: with `--topic` the payload stands alone.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The queue; with --topic there is none.
    queue: Option<String>,
    /// The payload; - or nothing reads it from standard input.
    body: Option<String>,
    /// Publish to every queue that is bound to this routing key, in place of a queue.
    #[arg(long, value_name = "KEY")]
    topic: Option<RoutingKey>,
}

impl Target {
    /// Where to, and the payload if one was typed.
    pub(crate) fn read(&self) -> Result<(Destination, Option<&str>)> {
        match (&self.topic, &self.queue, &self.body) {
            (None, Some(queue), body) => Ok((QueueName::new(queue)?.into(), body.as_deref())),
            (Some(topic), body, None) => Ok((topic.into(), body.as_deref())),
            (Some(_), _, Some(_)) => Err(Exit::Usage("a queue and --topic given: one of them".into())),
            (None, None, _) => Err(Exit::Usage("give a QUEUE, or --topic KEY".into())),
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Envelope {
    /// 1 to 10, 10 first.
    #[arg(short, long, default_value = "5", value_parser = priority, value_name = "1..10")]
    pub(crate) priority: Priority,
    /// Hand it out this much later: 2s, 150ms, 1h 30m.
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub(crate) delay: Duration,
    /// Never hand it out after this long; then it is a dead letter, expired.
    #[arg(long, value_parser = duration)]
    pub(crate) ttl: Option<Duration>,
    /// A key under which the queue stores one message only.
    #[arg(long, value_name = "KEY")]
    pub(crate) dedup_key: Option<String>,
    /// After how many attempts it dies; wins over what its reader says.
    #[arg(long)]
    pub(crate) max_attempts: Option<NonZeroU32>,
    /// What kind of message it is.
    #[arg(long, default_value = "")]
    pub(crate) kind: String,
    /// A header; may be given several times.
    #[arg(long = "header", value_parser = header, value_name = "KEY=VALUE")]
    pub(crate) headers: Vec<(String, String)>,
}

impl Envelope {
    /// A message with this envelope.
    pub(crate) fn around(&self, payload: Bytes) -> Message {
        let mut message = Message::new(payload)
            .with_priority(self.priority)
            .with_delay(self.delay)
            .with_kind(self.kind.clone());
        if let Some(ttl) = self.ttl {
            message = message.with_ttl(ttl);
        }
        if let Some(key) = &self.dedup_key {
            message = message.with_dedup_key(key.clone());
        }
        if let Some(max) = self.max_attempts {
            message = message.with_max_attempts(max);
        }
        self.headers.iter().fold(message, |message, (key, value)| message.with_header(key, value))
    }
}
