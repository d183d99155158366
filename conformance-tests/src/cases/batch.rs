//! BAT: a batch is checked as a whole and answered item by item.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Certainty, Consumer, Error, Message, MessageId, Priority, Published, Queue, QueueName, Settled, Verdict,
};
use tokio::time::Instant;

use super::arrival::{Arrival, ack, patience, timed};
use super::crowd::ack_all;
use super::crowd::{declared_for_thousands, drain_in_batches};
use super::hand::{ids, numbered};
use crate::verbs::{publish_all, publish_one, settle_one};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

/// What an item of the mixed batch asks for.
type Options = (Priority, Duration);

async fn each_item_keeps_its_options(env: Env) -> Outcome {
    let (queue, q) = env.declared("mixed").await?;
    let (batch, options) = mixed(&env)?;
    let (ids, published) = timed(publish_all(&queue, &q, batch)).await;
    let places: BTreeMap<MessageId, usize> = ids?.into_iter().zip(0..).collect();
    let consumer = queue.subscribe(&env.subscription(&q).lease(env.t(100.0))).await?;
    let mut last = BTreeMap::<Options, usize>::new();
    let mut undelayed = Vec::new();
    for _ in 0..options.len() {
        let arrival = Arrival::next(&env, &*consumer).await?;
        let place = *places.get(arrival.delivery.message.id()).ok_or("a message that nobody published")?;
        let (priority, delay) = options[place];
        ensure_eq!(arrival.delivery.message.priority(), priority, "the priority of item {place}");
        let mortal = arrival.delivery.message.ttl().is_some();
        ensure_eq!(mortal, place % 3 == 1, "whether item {place} has a time to live");
        arrival.not_early(published, delay)?;
        let before = last.insert((priority, delay), place);
        ensure!(before < Some(place), "item {place} came after item {before:?} with the same options");
        if delay.is_zero() {
            undelayed.push((10 - priority.get(), place));
        }
        settle_as_its_maximum_says(&*consumer, &arrival, place).await?;
    }
    ensure!(undelayed.is_sorted(), "the undelayed ones were ready together and came as {undelayed:?}");
    Ok(())
}

/// A hundred messages of mixed priorities and delays; every third has a time to live, every tenth may be attempted once only.
fn mixed(env: &Env) -> Result<(Vec<Message>, Vec<Options>), Fail> {
    let mut rng = env.rng();
    let (mut batch, mut options) = (Vec::new(), Vec::new());
    for place in 0..100 {
        let priority = Priority::new(1 + rng.below(10) as i64)?;
        let delay = env.t([0.0, 0.0, 1.0, 2.0][rng.below(4) as usize]);
        let message = Message::new(place.to_string()).with_priority(priority).with_delay(delay);
        // An hour outlasts the case; it may change nothing about the order.
        let message = if place % 3 == 1 { message.with_ttl(Duration::from_secs(3600)) } else { message };
        batch.push(if place % 10 == 7 { message.with_max_attempts(NonZeroU32::MIN) } else { message });
        options.push((priority, delay));
    }
    Ok((batch, options))
}

async fn settle_as_its_maximum_says(consumer: &dyn Consumer, arrival: &Arrival, place: usize) -> Outcome {
    if place % 10 != 7 {
        return ack(consumer, &arrival.delivery).await;
    }
    let verdict = Verdict::retry(Duration::ZERO, "once is enough");
    let settled = settle_one(consumer, &arrival.delivery.receipt, verdict).await?;
    ensure_eq!(settled, Settled::Died, "the answer to a retry of item {place}, which may be attempted once");
    Ok(())
}

async fn a_bad_item_is_named_and_nothing_is_stored(env: Env) -> Outcome {
    let (queue, q) = env.declared("bad-item").await?;
    let mut batch = numbered(100);
    batch[57] = Message::new(vec![0; env.info().limits.payload + 1]);
    match queue.publish(&(&q).into(), batch).await {
        Err(Error::Invalid { field, index, .. }) => {
            ensure_eq!((&*field, index), ("payload", Some(57)), "what is named");
        }
        other => return Err(format!("Invalid was expected, not {:?}", other.map(|items| items.len())).into()),
    }
    publish_one(&queue, &q, Message::new("sentinel")).await?;
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    ensure_eq!(Arrival::acked(&env, &*consumer).await?.text(), "sentinel", "all that was stored");
    ensure_eq!(queue.publish(&(&q).into(), Vec::new()).await?.len(), 0, "answers to an empty batch");
    if env.harness().link(env.namespace()).await.is_ok() {
        an_empty_batch_sends_nothing(&env).await?;
    }
    Ok(())
}

/// The connection may carry a heartbeat at any moment, hence several looks: a batch that sent something would each time.
async fn an_empty_batch_sends_nothing(env: &Env) -> Outcome {
    let linked = env.link().await?;
    let q = env.queue_name("bad-item");
    publish_one(&linked.queue, &q, Message::new("connected")).await?;
    let mut sent = Vec::new();
    for _ in 0..10 {
        let before = linked.link.traffic().to_broker;
        linked.queue.publish(&(&q).into(), Vec::new()).await?;
        tokio::time::sleep(env.t(0.1)).await;
        sent.push(linked.link.traffic().to_broker - before);
    }
    ensure!(sent.contains(&0), "an empty batch sent {sent:?} bytes");
    Ok(())
}

async fn ten_thousand_in_one_batch_stay_in_order(env: Env) -> Outcome {
    const N: usize = 10_000;
    let (queue, q) = declared_for_thousands(&env, "large-batch").await?;
    let mut rng = env.rng();
    let ids = publish_all(&queue, &q, (0..N).map(|_| Message::new(rng.bytes(1024))).collect()).await?;
    let consumer = queue.subscribe(&env.subscription(&q).lease(env.t(200.0))).await?;
    let drained = drain_in_batches(&env, &*consumer, N, 500).await?;
    let wrong = drained.iter().zip(&ids).position(|(delivery, id)| delivery.message.id() != id);
    ensure_eq!(wrong, None, "the first place where the order is not that of the batch");
    Ok(())
}

/// What publishes across a connection that is being cut answered.
#[derive(Default)]
struct Answers {
    ok: BTreeSet<MessageId>,
    refused: BTreeSet<MessageId>,
    unknown: BTreeSet<MessageId>,
}

impl Answers {
    fn add(&mut self, ids: Vec<MessageId>, answer: polyqueue::Result<Vec<polyqueue::Result<Published>>>) {
        let items = match answer {
            Ok(items) => items.into_iter().map(|item| item.map(drop)).collect(),
            Err(error) => vec![Err(error); ids.len()],
        };
        for (id, item) in ids.into_iter().zip(items) {
            match item.map_err(|error| error.certainty()) {
                Ok(()) => self.ok.insert(id),
                Err(Certainty::Definite) => self.refused.insert(id),
                Err(Certainty::Unknown) => self.unknown.insert(id),
            };
        }
    }

    fn are_true_of(&self, came: &[MessageId]) -> Outcome {
        let once: BTreeSet<MessageId> = came.iter().cloned().collect();
        ensure_eq!(once.len(), came.len(), "distinct messages among those that came");
        let lost = self.ok.difference(&once).count();
        ensure_eq!(lost, 0, "messages that were answered Ok and did not come, of {}", self.ok.len());
        let ghosts = self.refused.intersection(&once).count();
        ensure_eq!(ghosts, 0, "messages that were refused for certain and came, of {}", self.refused.len());
        ensure!(!self.unknown.is_empty() || !self.refused.is_empty(), "no cut hit a batch");
        Ok(())
    }
}

async fn a_cut_batch_tells_the_truth_of_each_item(env: Env) -> Outcome {
    use crate::link::Direction::{ToBroker, ToClient};
    let (direct, q) = env.declared("cut").await?;
    let linked = env.link().await?;
    env.note_fault();
    let mut rng = env.rng();
    let mut answers = Answers::default();
    publish_fifty(&linked.queue, &q, &mut answers).await;
    let before = linked.link.traffic();
    publish_fifty(&linked.queue, &q, &mut answers).await;
    let after = linked.link.traffic();
    for round in 0..20 {
        connected(&env, &linked.queue, &q, &mut answers).await?;
        let (way, bytes) = match round % 4 {
            3 => (ToClient, after.to_client - before.to_client),
            _ => (ToBroker, after.to_broker - before.to_broker),
        };
        linked.link.cut_after(way, rng.below(bytes));
        publish_fifty(&linked.queue, &q, &mut answers).await;
        linked.link.heal();
    }
    let last = publish_one(&direct, &q, Message::new("sentinel")).await?;
    let consumer = direct.subscribe(&env.subscription(&q).lease(env.t(100.0))).await?;
    answers.ok.insert(last.clone());
    answers.are_true_of(&all_until_quiet(&env, &*consumer, &last).await?)
}

async fn publish_fifty(queue: &Arc<dyn Queue>, q: &QueueName, answers: &mut Answers) {
    let batch = numbered(50);
    let ids = batch.iter().map(|message| message.id().clone()).collect();
    answers.add(ids, queue.publish(&q.into(), batch).await);
}

/// Publishes until one is answered: the handle is connected again, so that the cut falls into a batch, not a handshake.
async fn connected(env: &Env, queue: &Arc<dyn Queue>, q: &QueueName, answers: &mut Answers) -> Outcome {
    let begin = Instant::now();
    loop {
        let probe = Message::new("probe");
        let (id, ok) = (probe.id().clone(), answers.ok.len());
        answers.add(vec![id], queue.publish(&q.into(), vec![probe]).await);
        if answers.ok.len() > ok {
            return Ok(());
        }
        ensure!(begin.elapsed() < patience(env), "the handle did not reconnect");
        tokio::time::sleep(env.t(0.1)).await;
    }
}

/// Acks until `last` came and then nothing for 2T: what was on its way when a connection was cut has arrived by then.
async fn all_until_quiet(
    env: &Env,
    consumer: &dyn Consumer,
    last: &MessageId,
) -> Result<Vec<MessageId>, Fail> {
    let mut came: Vec<MessageId> = Vec::new();
    loop {
        let wait = if came.contains(last) { env.t(2.0) } else { patience(env) };
        let batch = consumer.receive(100, wait).await?;
        if batch.is_empty() {
            return Ok(came);
        }
        ack_all(consumer, &batch).await?;
        came.extend(ids(&batch));
    }
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-BAT-01",
        "each item of a batch keeps its options, and equal ones their order",
        ["S-BAT-2", "S-BAT-3", "S-PRI-1", "S-DLY-1"],
        Safety,
        [],
        each_item_keeps_its_options
    ),
    case!(
        "C-BAT-02",
        "a bad item is named and nothing is stored; an empty batch is Ok and sends nothing",
        ["S-BAT-1", "S-BAT-4"],
        Safety,
        [],
        a_bad_item_is_named_and_nothing_is_stored
    ),
    case!(
        "C-BAT-03",
        "10,000 messages in one batch are all stored, in order",
        ["S-BAT-3", "S-PUB-1"],
        Safety,
        [],
        ten_thousand_in_one_batch_stay_in_order
    ),
    case!(
        "C-BAT-04",
        "a batch whose connection is cut tells the truth of each item",
        ["S-BAT-2", "S-PUB-2", "S-PUB-5"],
        Safety,
        [Link],
        a_cut_batch_tells_the_truth_of_each_item
    ),
];
