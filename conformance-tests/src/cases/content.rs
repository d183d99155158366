//! Content: whatever bytes and headers were sent come back as they were, and what cannot be read harms nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Bytes, Consumer, DeadBody, DeadReason, Destination, Message, Queue, QueueName, Settled, Verdict,
};

use super::dead_letter::{only_dead_letter, same_content};
use super::hand::{PATIENCE, nothing_else_is_ready, steady};
use super::input::refused;
use super::interrupt::Victim;
use crate::verbs::{dead_all, publish_one, receive_none, receive_one, settle_one};
use crate::{Case, Env, Garbage, Outcome, Rng, case, ensure, ensure_eq};

/// Sends one message through the queue and compares what arrives.
async fn round_trip(
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    consumer: &dyn Consumer,
    sent: Message,
) -> Outcome {
    publish_one(queue, name, sent.clone()).await?;
    let delivery = receive_one(consumer, PATIENCE).await?;
    same_content(&delivery.message, &sent)?;
    ensure_eq!(settle_one(consumer, &delivery.receipt, Verdict::Ack).await?, Settled::Applied, "ack");
    Ok(())
}

async fn payloads_of_every_size(env: Env) -> Outcome {
    let (queue, name) = env.declared("sizes").await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    let (limit, mut rng) = (env.info().limits.payload, env.rng());
    let (kib, mib) = (1024, 1024 * 1024);
    let around = [64 * kib - 1, 64 * kib, 64 * kib + 1, 128 * kib - 1, 128 * kib, 128 * kib + 1];
    for size in [&[0, 1, 127, 128, 4 * kib][..], &around, &[mib, limit]].concat() {
        round_trip(&queue, &name, &*consumer, Message::new(rng.bytes(size))).await?;
    }
    let beyond = queue.publish(&Destination::from(&name), vec![Message::new(vec![0; limit + 1])]).await;
    refused(beyond, "payload", Some(0))?;
    round_trip(&queue, &name, &*consumer, Message::new("alive")).await?;
    nothing_else_is_ready(&queue, &name, &*consumer).await
}

async fn payloads_of_every_byte(env: Env) -> Outcome {
    let (queue, name) = env.declared("bytes").await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    let all: Vec<u8> = (0..=255).collect();
    let braces = "{".repeat(10_000);
    let awkward: [&[u8]; 8] = [
        &all,
        b"\xff\xfe\xc3\x28\xed\xa0\x80",
        b"\0",
        b"\0\0after",
        b"\r\n",
        b"$3\r\nfoo\r\n*1\r\n",
        braces.as_bytes(),
        b"\xce",
    ];
    for payload in awkward {
        round_trip(&queue, &name, &*consumer, Message::new(payload.to_vec())).await?;
    }
    Ok(())
}

/// Keys that a backend might be tempted to use itself, and keys that are hard to write down.
const AWKWARD_KEYS: [&str; 30] = [
    "x-death",
    "x-delivery-count",
    "x-acquired-count",
    "x-first-death-queue",
    "CC",
    "BCC",
    "__",
    "h",
    "id",
    "data",
    "kind",
    "priority",
    "attempt",
    "attempts",
    "retries",
    "last_error",
    "published_at",
    "p",
    "a",
    "t",
    "x",
    "r",
    "e",
    "with.dots",
    "with spaces",
    "😀",
    "שלום",
    "é",
    "e\u{301}",
    "tab\tand\r\nline\0",
];

/// 64 headers of 8 KiB in all.
fn awkward_headers() -> BTreeMap<String, String> {
    let mut headers: BTreeMap<String, String> =
        AWKWARD_KEYS.iter().map(|&key| (key.to_owned(), format!("{key} → ∀\r\n\0"))).collect();
    headers.insert("empty".into(), String::new());
    headers.insert("long ".repeat(60), "a key of 300 bytes".into());
    for i in headers.len()..63 {
        headers.insert(format!("filler {i}"), i.to_string());
    }
    let used: usize = headers.iter().map(|(key, value)| key.len() + value.len()).sum();
    headers.insert("rest".into(), "x".repeat(8 * 1024 - used - "rest".len()));
    headers
}

fn with_headers(headers: BTreeMap<String, String>) -> Message {
    let mut message = Message::new("body");
    *message.headers_mut() = headers;
    message
}

async fn headers_come_back_as_they_were(env: Env) -> Outcome {
    let (queue, name) = env.declared("headers").await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    let sent = with_headers(awkward_headers());
    let bytes: usize = sent.headers().iter().map(|(key, value)| key.len() + value.len()).sum();
    ensure_eq!((sent.headers().len(), bytes), (64, 8 * 1024), "the headers of this case");
    publish_one(&queue, &name, sent.clone()).await?;
    for attempt in 1..=2 {
        let delivery = receive_one(&*consumer, PATIENCE).await?;
        ensure_eq!(delivery.attempt, attempt, "attempt");
        same_content(&delivery.message, &sent)?;
        let verdict =
            if attempt == 1 { Verdict::retry(Duration::ZERO, "again") } else { Verdict::reject("no") };
        settle_one(&*consumer, &delivery.receipt, verdict).await?;
    }
    let dead_letter = only_dead_letter(&queue, &name).await?;
    let Some(message) = dead_letter.message() else { return Err("the record holds no message".into()) };
    same_content(message, &sent)?;
    headers_at_the_limit(&env, &queue, &name, &*consumer).await
}

async fn headers_at_the_limit(
    env: &Env,
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    consumer: &dyn Consumer,
) -> Outcome {
    let limits = &env.info().limits;
    let (entries, bytes) = (limits.headers, limits.header_bytes);
    let full = |entries: usize, bytes: usize| {
        let mut headers: BTreeMap<String, String> =
            (1..entries).map(|i| (format!("{i:04}"), String::new())).collect();
        headers.insert("rest".into(), "x".repeat(bytes - 4 * entries));
        with_headers(headers)
    };
    round_trip(queue, name, consumer, full(entries, bytes)).await?;
    let to = Destination::from(name);
    refused(queue.publish(&to, vec![full(entries + 1, bytes)]).await, "headers", Some(0))?;
    refused(queue.publish(&to, vec![full(entries, bytes + 1)]).await, "headers", Some(0))?;
    round_trip(queue, name, consumer, Message::new("alive")).await?;
    nothing_else_is_ready(queue, name, consumer).await
}

const CORPUS: usize = 200;

async fn garbage_is_dead_lettered_alone(env: Env) -> Outcome {
    let (queue, name) = env.declared("garbage").await?;
    let victim = Victim::open(&env).await?;
    let consumer = victim.queue.subscribe(&steady(&env, &name)).await?;
    let mut rng = env.rng();
    let mut bodies = Vec::new();
    for i in 0..CORPUS {
        let (garbage, body) = rubbish(i, &mut rng);
        env.garbage(&name, garbage).await?;
        bodies.extend(body);
    }
    round_trip(&queue, &name, &*consumer, Message::new("the next good one")).await?;
    receive_none(&*consumer, env.t(1.0)).await?;
    nothing_else_is_ready(&queue, &name, &*consumer).await?;
    let sent = victim.bytes_sent();
    receive_none(&*consumer, env.t(3.0)).await?;
    let idle = victim.bytes_sent() - sent;
    ensure!(idle < 8 * 1024, "{idle} bytes sent while there was nothing to do");
    let dead_letters = dead_all(&queue, &name).await?;
    ensure_eq!(dead_letters.len(), CORPUS, "dead letters");
    let mut raw = Vec::new();
    for dead_letter in dead_letters {
        ensure_eq!(dead_letter.reason, DeadReason::Undecodable, "reason");
        let DeadBody::Raw(bytes) = dead_letter.body else { return Err("garbage became a message".into()) };
        raw.push(bytes);
    }
    for body in &bodies {
        let Some(at) = raw.iter().position(|bytes| bytes == body) else {
            return Err(format!("a body of {} bytes is in no dead letter", body.len()).into());
        };
        raw.swap_remove(at);
    }
    foreign_messages_are_messages(&env, &queue, &name, &*consumer).await
}

/// One unreadable thing and the body beside it, when it has one.
fn rubbish(i: usize, rng: &mut Rng) -> (Garbage, Option<Bytes>) {
    // No field of any kind may hold a control character, nor this many bytes that are no number.
    const VALUES: [&str; 6] =
        ["\u{1}five", "NaN\0", "-1\u{7f}", "{\"id\":\u{1}", "\u{85}\u{FFFD}", "\u{1}٣ "];
    let body = Bytes::from(rng.bytes([0, 1, 17, 300, 70_000][i % 5]));
    match i % 4 {
        0 => (Garbage::NoBody, None),
        1 => (Garbage::FutureVersion { body: body.clone() }, Some(body)),
        2 => {
            let value = VALUES[rng.below(VALUES.len() as u64) as usize].to_owned();
            (Garbage::BrokenField { body: body.clone(), field: i / 4, value }, Some(body))
        }
        _ => {
            let value = "9".repeat(4096 + rng.below(50_000) as usize) + "x";
            (Garbage::BrokenField { body: body.clone(), field: i / 4, value }, Some(body))
        }
    }
}

async fn foreign_messages_are_messages(
    env: &Env,
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    consumer: &dyn Consumer,
) -> Outcome {
    env.foreign(name, "from elsewhere").await?;
    let delivery = receive_one(consumer, PATIENCE).await?;
    let message = &delivery.message;
    ensure_eq!(
        (message.payload().as_ref(), message.kind()),
        (&b"from elsewhere"[..], ""),
        "payload and kind"
    );
    ensure!(!message.id().as_str().is_empty(), "no id");
    ensure_eq!(delivery.attempt, 1, "attempt");
    let retry = Verdict::retry(Duration::ZERO, "not yet");
    ensure_eq!(settle_one(consumer, &delivery.receipt, retry).await?, Settled::Applied, "retry");
    let again = receive_one(consumer, PATIENCE).await?;
    ensure_eq!((again.message.id(), again.attempt), (message.id(), 2), "the second hand-out");
    ensure_eq!(again.message.payload(), message.payload(), "payload");
    ensure_eq!(settle_one(consumer, &again.receipt, Verdict::Ack).await?, Settled::Applied, "ack");
    nothing_else_is_ready(queue, name, consumer).await
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-VAL-01",
        "payloads from nothing to the limit come back byte for byte; one byte more is Invalid",
        ["S-VAL-1", "S-VAL-4", "S-DEL-5"],
        Safety,
        [],
        payloads_of_every_size
    ),
    case!("C-VAL-02", "every byte value comes back", ["S-VAL-1"], Safety, [], payloads_of_every_byte),
    case!(
        "C-VAL-03",
        "headers come back as they were and clash with nothing; beyond the limit is Invalid",
        ["S-VAL-2", "S-VAL-4", "S-DEL-5", "S-RET-4"],
        Safety,
        [],
        headers_come_back_as_they_were
    ),
    case!(
        "C-VAL-07",
        "garbage is dead-lettered alone, the next message flows; a foreign message is a message",
        ["S-VAL-5", "S-DLQ-1"],
        Safety,
        [],
        garbage_is_dead_lettered_alone
    ),
];
