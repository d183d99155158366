//! Steps with messages in hand, which several groups of cases share.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Consumer, Delivery, Message, MessageId, Priority, Queue, QueueName, QueueStats, Receipt, Result, Settled,
    Subscription, Verdict,
};
use tokio::time::{Instant, sleep_until};

use super::arrival::Span;
use crate::verbs::{dead_all, publish_all, publish_one, receive_one, settle_one};
use crate::{Env, Fail, Outcome, ensure, ensure_eq};

/// How long a message that must be there is waited for where its lateness is not what is being judged.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Messages whose payloads are their numbers.
pub(super) fn numbered(n: usize) -> Vec<Message> {
    (0..n).map(|i| Message::new(i.to_string())).collect()
}

/// The number that a message of [`numbered`] carries.
pub(super) fn number(message: &Message) -> Result<usize, Fail> {
    let text = std::str::from_utf8(message.payload()).map_err(|e| e.to_string())?;
    Ok(text.parse().map_err(|_| format!("payload {text:?} is no number"))?)
}

/// A priority that is within 1 to 10.
pub(super) fn level(priority: u8) -> Priority {
    Priority::new(priority).unwrap_or_default()
}

/// The ids of deliveries, in their order.
pub(super) fn ids(deliveries: &[Delivery]) -> Vec<MessageId> {
    deliveries.iter().map(|delivery| delivery.message.id().clone()).collect()
}

/// The ids as a set; fails when one is there twice.
pub(super) fn once_each(ids: impl IntoIterator<Item = MessageId>) -> Result<BTreeSet<MessageId>, Fail> {
    let mut set = BTreeSet::new();
    for id in ids {
        ensure!(set.insert(id.clone()), "{id} is there twice");
    }
    Ok(set)
}

/// Receives until `n` messages are in hand, and settles none.
pub(super) async fn hold(consumer: &dyn Consumer, n: usize) -> Result<Vec<Delivery>, Fail> {
    let mut leased = Vec::with_capacity(n);
    while leased.len() < n {
        let more = consumer.receive(n - leased.len(), PATIENCE).await?;
        ensure!(!more.is_empty(), "only {} of {n} messages came within {PATIENCE:?}", leased.len());
        leased.extend(more);
    }
    Ok(leased)
}

/// Gives one verdict each in a single call; all answers must be `expected`.
pub(super) async fn settle_all(
    consumer: &dyn Consumer,
    deliveries: &[Delivery],
    verdict: impl Fn(&Delivery) -> Verdict,
    expected: Settled,
) -> Outcome {
    let verdicts: Vec<(Receipt, Verdict)> =
        deliveries.iter().map(|delivery| (delivery.receipt.clone(), verdict(delivery))).collect();
    let answers = consumer.settle(&verdicts).await?;
    ensure_eq!(answers.len(), verdicts.len(), "answers to {} verdicts", verdicts.len());
    for (answer, delivery) in answers.into_iter().zip(deliveries) {
        ensure_eq!(answer?, expected, "verdict on {}", delivery.message.id());
    }
    Ok(())
}

/// Publishes messages and refuses each of them, with its number as the error text: that many dead letters.
pub(super) async fn dead_letter_all(
    env: &Env,
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    messages: Vec<Message>,
) -> Result<Vec<MessageId>, Fail> {
    let n = messages.len();
    let ids = publish_all(queue, name, messages).await?;
    let consumer = queue.subscribe(&steady(env, name)).await?;
    let leased = hold(&*consumer, n).await?;
    let error = |delivery: &Delivery| format!("no {}", String::from_utf8_lossy(delivery.message.payload()));
    settle_all(&*consumer, &leased, |delivery| Verdict::reject(error(delivery)), Settled::Died).await?;
    consumer.close().await?;
    Ok(ids)
}

/// A lease that does not end while a case runs.
const LONG: Duration = Duration::from_secs(600);

/// A subscription whose leases do not end while a case runs: for all that is not about the ends of leases.
pub(super) fn steady(env: &Env, name: &QueueName) -> Subscription {
    env.subscription(name).lease(LONG)
}

/// A lease that is short enough to be waited out, and long enough that no hiccup of the machine ends it.
pub(crate) fn brief(env: &Env) -> Duration {
    env.t(5.0).max(env.hiccups(8))
}

/// A time to live that no hiccup of the machine uses up before a case has done what it must do first; in whole milliseconds,
/// as brokers keep it.
pub(super) fn lifetime(env: &Env) -> Duration {
    Duration::from_millis(env.t(2.0).max(env.hiccups(8)).as_millis() as u64)
}

/// By then a message of this publish has outlived its time by any clock.
pub(super) fn outlived(published: Span, ttl: Duration) -> Instant {
    published.ret + ttl + GRAIN
}

/// A subscription with [`brief`] leases.
pub(super) fn expiring(env: &Env, name: &QueueName) -> Subscription {
    env.subscription(name).lease(brief(env))
}

/// Proves that nothing else is ready: a message of the lowest priority, published last, is the next one.
pub(super) async fn nothing_else_is_ready(
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    consumer: &dyn Consumer,
) -> Outcome {
    let sentinel = Message::new("sentinel").with_priority(Priority::LOWEST);
    let id = publish_one(queue, name, sentinel).await?;
    let next = receive_one(consumer, PATIENCE).await?;
    ensure_eq!(next.message.id(), &id, "the next message, attempt {}; expected the sentinel", next.attempt);
    ensure_eq!(
        settle_one(consumer, &next.receipt, Verdict::Ack).await?,
        Settled::Applied,
        "ack of the sentinel"
    );
    Ok(())
}

/// Acks everything that is ready and returns the ids as they came.
pub(super) async fn drain_to_sentinel(
    env: &Env,
    queue: &Arc<dyn Queue>,
    name: &QueueName,
) -> Result<Vec<MessageId>, Fail> {
    let consumer = queue.subscribe(&steady(env, name)).await?;
    let last = publish_one(queue, name, Message::new("last").with_priority(Priority::LOWEST)).await?;
    let mut copies = Vec::new();
    loop {
        let leased = consumer.receive(50, PATIENCE).await?;
        ensure!(
            !leased.is_empty(),
            "after {} messages the last did not come within {PATIENCE:?}",
            copies.len()
        );
        settle_all(&*consumer, &leased, |_| Verdict::Ack, Settled::Applied).await?;
        let came = ids(&leased);
        let done = came.contains(&last);
        copies.extend(came.into_iter().filter(|id| *id != last));
        if done {
            return Ok(copies);
        }
    }
}

/// Makes every dead letter of a queue ready again.
pub(super) async fn redrive_all(queue: &Arc<dyn Queue>, name: &QueueName) -> Outcome {
    let dead_letters: Vec<_> =
        dead_all(queue, name).await?.into_iter().map(|dead_letter| dead_letter.id).collect();
    let answers = queue.redrive(name, &dead_letters).await?;
    ensure!(
        answers.iter().all(|&ready| ready),
        "of {} listed dead letters some were not there",
        dead_letters.len()
    );
    Ok(())
}

/// Sleeps until `end`, for what must not have happened before it, or must have by then.
pub(super) async fn until(end: Instant) {
    sleep_until(end).await;
}

/// The grain of the clocks that leases are measured with: broker time comes in whole milliseconds.
pub(super) const GRAIN: Duration = Duration::from_millis(2);

/// The instant by which the lease of something that has just been received is over by any clock.
pub(super) fn lease_over(received: Instant, lease: Duration) -> Instant {
    received + lease + GRAIN
}

/// Compares counts; what a backend cannot know (`None`) is not compared.
pub(super) fn counts(stats: &QueueStats, expected: Counts, when: &str) -> Outcome {
    ensure_eq!(stats.ready, expected.ready, "{when}: ready");
    ensure_eq!(stats.dead, expected.dead, "{when}: dead");
    ensure_eq!(stats.delayed.unwrap_or(expected.delayed), expected.delayed, "{when}: delayed");
    ensure_eq!(stats.in_flight.unwrap_or(expected.in_flight), expected.in_flight, "{when}: in flight");
    Ok(())
}

/// How many messages must be where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) ready: u64,
    pub(super) delayed: u64,
    pub(super) in_flight: u64,
    pub(super) dead: u64,
}
