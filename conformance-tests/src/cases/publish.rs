//! PUB: what a publish answers is so.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt, stream};
use polyqueue::backend::Parts;
use polyqueue::{
    Consumer, Dedup, Destination, Error, Message, MessageId, Priority, Queue, QueueName, QueueSpec,
    ReplyAddress,
};

use super::arrival::{Arrival, ack, patience};
use super::crowd::{drain_in_batches, in_tasks};
use super::hand;
use super::route::{bound, key, reaches_nobody, refused};
use crate::verbs::{poll_then_drop, publish_all, publish_one, receive_one};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

async fn every_field_arrives(env: Env) -> Outcome {
    let queue = env.open().await?;
    let spec = QueueSpec::new(env.queue_name("fields")).dedup(Dedup::window(Duration::from_secs(600)));
    queue.declare(&spec).await?;
    let q = spec.name;
    let prompt = every_field()?;
    let delayed = every_field()?.with_delay(env.t(1.0));
    publish_all(&queue, &q, vec![prompt.clone(), delayed.clone()]).await?;
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    for sent in [prompt, delayed] {
        let arrival = Arrival::acked(&env, &*consumer).await?;
        ensure_eq!(
            parts((*arrival.delivery.message).clone()),
            parts(sent.with_delay(Duration::ZERO)),
            "the envelope"
        );
        ensure_eq!(arrival.delivery.attempt, 1, "the attempt");
        ensure_eq!(arrival.delivery.queue, q, "the queue");
    }
    publish_one(&queue, &q, Message::new("plain")).await?;
    let plain = Arrival::acked(&env, &*consumer).await?;
    let published_at =
        plain.delivery.message.published_at().ok_or("nobody filled in published_at".to_owned())?;
    let off = (Utc::now() - published_at).abs();
    ensure!(off < TimeDelta::minutes(1), "published_at is {off} off the sender's clock");
    Ok(())
}

/// A message in which nothing is left at its default.
fn every_field() -> Result<Message, Fail> {
    let sent_at = DateTime::<Utc>::from_timestamp_millis(1_614_834_367_089).unwrap_or_default();
    Ok(Message::new((0..=255).collect::<Vec<u8>>())
        .with_id(MessageId::new(format!("my own id, é-😀 {}", MessageId::random()))?)
        .with_kind("order.placed")
        .with_schema_version("2.1.0")
        .with_priority(Priority::new(7)?)
        .with_max_attempts(NonZeroU32::MIN.saturating_add(6))
        .with_ttl(Duration::from_secs(3600))
        .with_dedup_key(format!("key é-😀 {}", MessageId::random()))
        .with_reply_to(ReplyAddress::new("some/inbox é, of anybody")?)
        .with_correlation_id("conversation 12")
        .with_published_at(sent_at)
        .with_header("traceparent", "00-4bf92f3577b34da6-01")
        .with_header("größe", "日本語 🎈")
        .with_header("empty", ""))
}

fn parts(message: Message) -> Parts {
    message.into_parts()
}

async fn an_answered_publish_is_there_for_the_next_receive(env: Env) -> Outcome {
    let (sender, q) = env.declared("there").await?;
    let reader = env.open().await?;
    let consumer = reader.subscribe(&env.subscription(&q)).await?;
    for n in 0..200 {
        let id = publish_one(&sender, &q, Message::new(n.to_string())).await?;
        let delivery = receive_one(&*consumer, Duration::ZERO).await?;
        ensure_eq!(delivery.message.id(), &id, "the message that was just published");
        ack(&*consumer, &delivery).await?;
    }
    Ok(())
}

async fn the_first_consumer_ever_gets_what_was_there_before(env: Env) -> Outcome {
    let (queue, q) = env.declared("before").await?;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(publish_one(&queue, &q, Message::new(n.to_string())).await?);
    }
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    let drained = drain_in_batches(&env, &*consumer, 10, 1).await?;
    ensure_eq!(hand::ids(&drained), ids, "all ten, in order");
    Ok(())
}

async fn nothing_is_stored_for_a_queue_that_is_not_there(env: Env) -> Outcome {
    let queue = env.open().await?;
    let q = env.queue_name("later");
    for message in [Message::new("lost"), Message::new("lost").with_delay(env.t(1.0))] {
        let error = refused(queue.publish(&(&q).into(), vec![message.clone()]).await)?;
        ensure!(matches!(&error, Error::NotFound(name) if *name == q), "NotFound was expected: {error}");
        reaches_nobody(&queue, &key("later")?, message.with_id(MessageId::random())).await?;
    }
    queue.declare(&bound(&env, "later", &["later", "#"])?).await?;
    publish_one(&queue, &q, Message::new("sentinel").with_delay(env.t(2.0))).await?;
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    ensure_eq!(Arrival::acked(&env, &*consumer).await?.text(), "sentinel", "all that was ever stored");
    Ok(())
}

async fn thousands_of_pipelined_publishes_are_each_stored_once(env: Env) -> Outcome {
    let (queue, q) = env.declared("pipelined").await?;
    let tasks = (0..8).map(|task| pipelined(queue.clone(), q.clone(), task));
    let ids: BTreeSet<MessageId> = in_tasks(tasks).await?.into_iter().flatten().collect();
    ensure_eq!(ids.len(), 8000, "distinct ids");
    let consumer = queue.subscribe(&env.subscription(&q).lease(env.t(100.0))).await?;
    let drained = drain_in_batches(&env, &*consumer, 8000, 100).await?;
    let came: BTreeSet<MessageId> = hand::ids(&drained).into_iter().collect();
    ensure!(came == ids, "{} of 8000 came", came.intersection(&ids).count());
    ensure_eq!(consumer.receive(1, Duration::ZERO).await?.len(), 0, "messages beyond those published");
    Ok(())
}

/// A thousand publishes of one message each, many of them under way at a time.
async fn pipelined(queue: Arc<dyn Queue>, q: QueueName, task: usize) -> Result<Vec<MessageId>, Fail> {
    let publishes = (0..1000).map(|n| publish_one(&queue, &q, Message::new(format!("{task}-{n}"))));
    stream::iter(publishes).buffered(50).try_collect().await
}

async fn a_dropped_publish_delivers_once_or_never(env: Env) -> Outcome {
    const ENOUGH: usize = 200;
    let (queue, q) = env.declared("dropped").await?;
    let to = Destination::from(&q);
    let mut polls = 0;
    while poll_then_drop(queue.publish(&to, vec![Message::new("dropped?")]), polls).await.is_none() {
        polls += 1;
        ensure!(polls < ENOUGH, "a publish did not end within {ENOUGH} polls");
    }
    let last = publish_one(&queue, &q, Message::new("sentinel")).await?;
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    let mut times = BTreeMap::<MessageId, usize>::new();
    for delivery in until(&env, &*consumer, &last).await? {
        *times.entry(delivery).or_default() += 1;
    }
    ensure!(times.contains_key(&last), "the handle does not work any more");
    ensure!(times.values().all(|&n| n == 1), "handed out more than once: {times:?}");
    ensure!(times.len() <= polls + 2, "{} messages of {} publishes", times.len(), polls + 2);
    Ok(())
}

/// Acks until `last` came, then what else is ready; answers all ids as they came.
async fn until(env: &Env, consumer: &dyn Consumer, last: &MessageId) -> Result<Vec<MessageId>, Fail> {
    let mut ids = Vec::new();
    loop {
        let wait = if ids.contains(last) { Duration::ZERO } else { patience(env) };
        let Some(delivery) = consumer.receive(1, wait).await?.pop() else { return Ok(ids) };
        ack(consumer, &delivery).await?;
        ids.push(delivery.message.id().clone());
    }
}

async fn one_bad_publish_fails_no_other(env: Env) -> Outcome {
    let (queue, q) = env.declared("good").await?;
    let (to, nowhere) = (Destination::from(&q), Destination::from(env.queue_name("nowhere")));
    let too_large = Message::new(vec![0; env.info().limits.payload + 1]);
    let good = join_all((0..50).map(|n| publish_one(&queue, &q, Message::new(n.to_string()))));
    let (good, large, lost) = tokio::join!(
        good,
        queue.publish(&to, vec![too_large]),
        queue.publish(&nowhere, vec![Message::new("lost")]),
    );
    let good = good.into_iter().collect::<Result<BTreeSet<_>, Fail>>()?;
    let (large, lost) = (refused(large)?, refused(lost)?);
    ensure!(matches!(&large, Error::Invalid { field, .. } if field == "payload"), "{large}");
    ensure!(matches!(&lost, Error::NotFound(_)), "{lost}");
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    let drained = drain_in_batches(&env, &*consumer, 50, 10).await?;
    let came: BTreeSet<MessageId> = hand::ids(&drained).into_iter().collect();
    ensure_eq!(came, good, "the good ones");
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case!("C-PUB-01", "every field arrives as it was sent", ["S-DEL-5"], Safety, [], every_field_arrives),
    case!(
        "C-PUB-02",
        "a publish that was answered is there for any client's next receive",
        ["S-PUB-1"],
        Safety,
        [],
        an_answered_publish_is_there_for_the_next_receive
    ),
    case!(
        "C-PUB-03",
        "the first consumer ever gets what was published before it came",
        ["S-PUB-1", "S-DEL-1"],
        Safety,
        [],
        the_first_consumer_ever_gets_what_was_there_before
    ),
    case!(
        "C-PUB-04",
        "a publish to a queue or topic that is not there is NotFound and stores nothing, also for later",
        ["S-PUB-2", "S-TOP-3"],
        Safety,
        [],
        nothing_is_stored_for_a_queue_that_is_not_there
    ),
    case!(
        "C-PUB-05",
        "8,000 publishes pipelined on one handle are 8,000 messages, each once",
        ["S-PUB-1", "S-PUB-5", "S-DEL-3"],
        Safety,
        [],
        thousands_of_pipelined_publishes_are_each_stored_once
    ),
    case!(
        "C-PUB-06",
        "a publish dropped at any of its polls delivers once or never, and its handle lives on",
        ["S-PUB-3", "S-PUB-5"],
        Safety,
        [],
        a_dropped_publish_delivers_once_or_never
    ),
    case!(
        "C-PUB-07",
        "one bad publish fails no other that is under way",
        ["S-PUB-2", "S-PUB-4"],
        Safety,
        [],
        one_bad_publish_fails_no_other
    ),
];
