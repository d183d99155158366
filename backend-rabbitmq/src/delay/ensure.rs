//! The objects that delay messages: made where they are missing, and only then, for not everybody may make them.

use lapin::ExchangeKind;
use lapin::types::{AMQPValue, FieldTable};
use polyqueue::Result;
use tokio::time::Instant;

use crate::connection::change::Change;
use crate::connection::control::Control;
use crate::connection::fault::if_there;
use crate::connection::publisher::{Publisher, lost};
use crate::connection::request::{Confirm, PublishRequest};
use crate::delay::slots::Slot;
use crate::topology::routes::due_exchange;
use crate::wire::delay::{CLOCK, DUE, LOCK, LOOK, LOST, NEXT};

/// How long a hint for whoever stands by is worth something, in milliseconds.
const HINT: i64 = 2_000;
/// The same for whoever moves.
const NOTE: i64 = 60_000;
/// How many of these are kept.
const NOTES: i64 = 10_000;

/// Which of these queues are missing: asked by messages that expire at once, which closes no channel and needs no right to declare.
pub(crate) async fn missing(publisher: &Publisher, queues: &[String], by: Instant) -> Result<Vec<String>> {
    let mut answers = Vec::with_capacity(queues.len());
    for queue in queues {
        answers.push(publisher.publish(question(queue), by).await);
    }
    let mut missing = Vec::new();
    for (queue, answer) in queues.iter().zip(answers) {
        let answer = tokio::time::timeout_at(by, answer).await;
        if let Confirm::Unroutable = answer.ok().and_then(std::result::Result::ok).ok_or_else(lost)?? {
            missing.push(queue.clone());
        }
    }
    Ok(missing)
}

fn question(queue: &str) -> PublishRequest {
    let properties = lapin::BasicProperties::default().with_expiration("0".into());
    PublishRequest { exchange: String::new(), key: queue.to_owned(), properties, body: bytes::Bytes::new() }
}

/// Makes what is missing of what every mover needs.
pub(crate) async fn ensure(control: &Control, publisher: &Publisher, by: Instant) -> Result<()> {
    ensure_due(control).await?;
    let mut queues: Vec<String> = [LOCK, NEXT, LOOK].map(str::to_owned).into();
    queues.extend(Slot::all(0..1).map(Slot::queue));
    let missing = missing(publisher, &queues, by).await?;
    if !missing.is_empty() {
        let channel = control.dedicated().await?;
        channel.change(missing.into_iter().map(queue).collect()).await?;
        tracing::info!(name: "rabbitmq.wheel_declared", "declared the queues that delay messages");
    }
    Ok(())
}

/// Makes the exchange that leads to the queues, where it is missing.
async fn ensure_due(control: &Control) -> Result<()> {
    if if_there(control.find_exchange(DUE).await)?.is_none() {
        control.change(vec![due_exchange()]).await?;
    }
    Ok(())
}

/// Makes what sends probes back.
pub(crate) async fn ensure_clock(control: &Control) -> Result<()> {
    let mut arguments = classic();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(0));
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
    let name = CLOCK.to_owned();
    let none = FieldTable::default();
    let changes = vec![
        Change::Exchange { name: name.clone(), kind: ExchangeKind::Fanout, arguments: none },
        Change::Queue { name: name.clone(), arguments },
        Change::Bind { queue: name.clone(), exchange: name, pattern: String::new() },
    ];
    Ok(control.change(changes).await?)
}

/// Whether there is something that may send probes back.
pub(crate) async fn has_clock(control: &Control) -> Result<bool> {
    Ok(if_there(control.find_exchange(CLOCK).await)?.is_some())
}

/// One of the queues that delay messages, as it is declared.
pub(crate) fn queue(name: String) -> Change {
    let mut arguments = classic();
    let mut limit = |key: &str, most| {
        arguments.insert(key.into(), AMQPValue::LongLongInt(most));
    };
    match name.as_str() {
        NEXT => {
            limit("x-message-ttl", HINT);
        }
        LOOK => {
            limit("x-message-ttl", NOTE);
            limit("x-max-length", NOTES);
        }
        _ => {}
    }
    Change::Queue { name, arguments }
}

/// Makes where what nobody wants ends.
pub(crate) async fn ensure_lost(control: &Control) -> Result<()> {
    Ok(control.change(vec![queue(LOST.to_owned())]).await?)
}

fn classic() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
    arguments
}
