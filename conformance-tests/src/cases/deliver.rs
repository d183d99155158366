//! DEL: what is stored is handed out, once, and soon.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use polyqueue::{Consumer, Message, MessageId, Priority, Queue, QueueName, Settled, Verdict};
use tokio::time::{Instant, sleep};

use super::arrival::{Arrival, ack, attentive, patience, text, timed};
use super::crowd::{ack_all, in_tasks};
use super::hand::numbered;
use crate::verbs::{poll_then_drop, publish_all, publish_one, receive_one, settle_one};
use crate::{Case, Env, Fail, Outcome, Rng, case, ensure, ensure_eq};

const MANY: usize = 5000;

async fn without_faults_each_message_comes_exactly_once(env: Env) -> Outcome {
    let q = env.declared("many").await?.1;
    let came = Arc::new(AtomicUsize::new(0));
    let (mut handles, mut producers, mut consumers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..4 {
        let queue = env.open().await?;
        producers.push(produce(env.rng(), queue.clone(), q.clone()));
        consumers.push(consume(env.clone(), queue.clone(), q.clone(), came.clone()));
        consumers.push(consume(env.clone(), queue.clone(), q.clone(), came.clone()));
        handles.push(queue);
    }
    let (produced, consumed) = tokio::try_join!(in_tasks(producers), in_tasks(consumers))?;
    let mut times: BTreeMap<MessageId, usize> = produced.into_iter().flatten().map(|id| (id, 0)).collect();
    for id in consumed.into_iter().flatten() {
        *times.get_mut(&id).ok_or("a message came that nobody published")? += 1;
    }
    ensure_eq!(times.len(), MANY, "distinct ids");
    let wrong = times.values().filter(|&&n| n != 1).count();
    ensure_eq!(wrong, 0, "messages that did not come exactly once");
    conserved(&handles, &q).await
}

/// A quarter of the messages, up to ten in a call.
async fn produce(mut rng: Rng, queue: Arc<dyn Queue>, q: QueueName) -> Result<Vec<MessageId>, Fail> {
    let mut ids = Vec::new();
    while ids.len() < MANY / 4 {
        let n = (1 + rng.below(10) as usize).min(MANY / 4 - ids.len());
        ids.extend(publish_all(&queue, &q, numbered(n)).await?);
    }
    Ok(ids)
}

/// Works up to 5 ms on each, until all consumers together have had all.
async fn consume(
    env: Env,
    queue: Arc<dyn Queue>,
    q: QueueName,
    came: Arc<AtomicUsize>,
) -> Result<Vec<MessageId>, Fail> {
    let mut rng: Rng = env.rng();
    let consumer = queue.subscribe(&env.subscription(&q).lease(env.t(100.0))).await?;
    let (mut ids, start) = (Vec::new(), Instant::now());
    while came.load(SeqCst) < MANY {
        ensure!(start.elapsed() < 5 * patience(&env), "{} of {MANY} came", came.load(SeqCst));
        for delivery in consumer.receive(1, env.t(0.5)).await? {
            came.fetch_add(1, SeqCst);
            ensure_eq!(delivery.attempt, 1, "the attempt of {}", delivery.message.id());
            sleep(Duration::from_micros(rng.below(5001))).await;
            ack(&*consumer, &delivery).await?;
            ids.push(delivery.message.id().clone());
        }
    }
    Ok(ids)
}

/// Stored = acked, and nothing is anywhere else.
async fn conserved(handles: &[Arc<dyn Queue>], q: &QueueName) -> Outcome {
    let (mut published, mut acked) = (0, 0);
    for queue in handles {
        let stats = queue.stats(q).await?;
        ensure_eq!((stats.ready, stats.dead), (0, 0), "ready and dead");
        ensure!(stats.delayed.is_none_or(|n| n == 0), "{:?} delayed", stats.delayed);
        ensure!(stats.in_flight.is_none_or(|n| n == 0), "{:?} in flight", stats.in_flight);
        published += stats.counters.published;
        acked += stats.counters.acked;
    }
    ensure_eq!((published, acked), (MANY as u64, MANY as u64), "counted publishes and acks");
    Ok(())
}

async fn what_is_leased_is_not_handed_out_again(env: Env) -> Outcome {
    let (queue, q) = env.declared("leased").await?;
    publish_one(&queue, &q, Message::new("leased")).await?;
    let holder = queue.subscribe(&env.subscription(&q)).await?;
    let leased = Arrival::next(&env, &*holder).await?.delivery;
    publish_one(&queue, &q, Message::new("sentinel").with_delay(env.t(4.0))).await?;
    let other_handle = env.open().await?;
    let other = other_handle.subscribe(&env.subscription(&q)).await?;
    let mut next = Arrival::next(&env, &*other).await?;
    if next.text() == "leased" {
        let early = leased.lease_until.saturating_duration_since(next.receive.ret);
        ensure!(
            early.is_zero(),
            "handed out again {early:?} before the end of the lease: {:?}",
            next.delivery
        );
        ack(&*other, &next.delivery).await?;
        next = Arrival::next(&env, &*other).await?;
    }
    ensure_eq!(next.text(), "sentinel", "the other message");
    ack(&*other, &next.delivery).await?;
    let settled = settle_one(&*holder, &leased.receipt, Verdict::Ack).await?;
    let in_time = Instant::now() < leased.lease_until;
    ensure!(
        settled == Settled::Applied || !in_time,
        "the holder's ack within its lease answered {settled:?}"
    );
    Ok(())
}

async fn a_waiting_receive_wakes_and_an_empty_one_ends(env: Env) -> Outcome {
    let (queue, q) = env.declared("wake").await?;
    let consumer: Arc<dyn Consumer> = attentive(&env, &queue, &q).await?.into();
    let (came, empty) = timed(consumer.receive(1, env.t(3.0))).await;
    ensure_eq!(came?.len(), 0, "messages in an empty queue");
    ensure!(empty.took() >= env.t(3.0), "a wait of 3T ended after {:?}", empty.took());
    env.in_time("the end of a wait of 3T", empty.inv + env.t(3.0), empty.ret)?;
    let (came, empty) = timed(consumer.receive(1, Duration::ZERO)).await;
    ensure_eq!(came?.len(), 0, "messages in an empty queue");
    env.in_time("the end of a wait of 0", empty.inv, empty.ret)?;
    let waiting = Arrival::awaited_aside(&env, consumer.clone());
    // Others of the same consumer that end leave it as it is.
    for wait in [Duration::ZERO, env.t(1.0)] {
        ensure_eq!(consumer.receive(1, wait).await?.len(), 0, "messages in an empty queue");
    }
    sleep(env.t(2.0)).await;
    let (id, published) = timed(publish_one(&queue, &q, Message::new("wake up"))).await;
    let (id, arrival) = (id?, waiting.await?);
    ensure_eq!(arrival.delivery.message.id(), &id, "the message");
    let what = "a receive that must wait before the publish";
    env.in_time_by(what, published.inv, arrival.receive.inv, Duration::ZERO)?;
    arrival.waited(&env, published, Duration::ZERO)
}

async fn a_receive_takes_what_is_there_and_waits_for_no_more(env: Env) -> Outcome {
    let (queue, q) = env.declared("at-once").await?;
    let consumer = attentive(&env, &queue, &q).await?;
    publish_all(&queue, &q, numbered(3)).await?;
    let (came, receive) = timed(consumer.receive(10, env.t(5.0))).await;
    let came = came?;
    ensure_eq!(came.iter().map(text).collect::<Vec<_>>(), ["0", "1", "2"], "what was ready");
    env.in_time("a receive(10) while three are ready", receive.inv, receive.ret)?;
    ack_all(&*consumer, &came).await?;
    publish_all(&queue, &q, numbered(5)).await?;
    for left in [5, 3, 1] {
        let came = consumer.receive(2, patience(&env)).await?;
        ensure_eq!(came.len(), left.min(2), "messages of a receive(2) while {left} are ready");
        ack_all(&*consumer, &came).await?;
    }
    Ok(())
}

async fn a_dropped_receive_loses_nothing(env: Env) -> Outcome {
    let (queue, q) = env.declared("dropped").await?;
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    // Within 2T no lease ends, so that no message can be dropped twice.
    let end = Instant::now() + env.t(2.0);
    let mut left = published_behind_waiting_receives(&env, &queue, &q, &*consumer).await?;
    left.extend(publish_all(&queue, &q, numbered(80)).await?);
    ensure_eq!(left.len(), 100, "distinct ids");
    drop_at_every_poll(&env, &*consumer, &mut left, end).await?;
    let came = all_by(&env, &*consumer, left.len(), Instant::now() + env.t(5.0)).await?;
    for arrival in came {
        let attempt = arrival.delivery.attempt;
        ensure!(attempt <= 2, "attempt {attempt} of a message that was dropped at most once");
        ensure!(
            left.remove(arrival.delivery.message.id()),
            "came again after its ack: {:?}",
            arrival.delivery
        );
    }
    ensure_eq!(left.len(), 0, "lost messages");
    Ok(())
}

/// Twenty receives wait, twenty messages are published, and the receives are dropped without another look: they must not
/// take the messages along.
async fn published_behind_waiting_receives(
    env: &Env,
    queue: &Arc<dyn Queue>,
    q: &QueueName,
    consumer: &dyn Consumer,
) -> Result<BTreeSet<MessageId>, Fail> {
    let mut receives: Vec<_> = (0..20).map(|_| Box::pin(consumer.receive(1, env.t(2.0)))).collect();
    for receive in &mut receives {
        let answer = poll_then_drop(receive.as_mut(), 1).await;
        ensure!(answer.is_none(), "an empty queue answered at once: {answer:?}");
    }
    Ok(publish_all(queue, q, numbered(20)).await?.into_iter().collect())
}

/// Drops a receive at its 0th, 1st, 2nd … poll until one ends before, and again, until half of the messages came.
async fn drop_at_every_poll(
    env: &Env,
    consumer: &dyn Consumer,
    left: &mut BTreeSet<MessageId>,
    end: Instant,
) -> Outcome {
    let (half, mut polls) = (left.len() / 2, 0);
    while Instant::now() < end && left.len() > half {
        match poll_then_drop(consumer.receive(3, env.t(0.5)), polls).await {
            None => polls += 1,
            Some(came) => {
                let came = came?;
                ack_all(consumer, &came).await?;
                left.retain(|id| came.iter().all(|delivery| delivery.message.id() != id));
                polls = 0;
            }
        }
    }
    Ok(())
}

/// The `n` messages that must all be ready at `due`, acked. A receive may be begun later, and then takes what is there.
async fn all_by(env: &Env, consumer: &dyn Consumer, n: usize, due: Instant) -> Result<Vec<Arrival>, Fail> {
    let mut came = Vec::with_capacity(n);
    while came.len() < n {
        let wait = due.saturating_duration_since(Instant::now()) + patience(env);
        let (batch, receive) = timed(consumer.receive(n, wait)).await;
        let batch = batch?;
        ensure!(!batch.is_empty(), "{} of {n} came within {wait:?}", came.len());
        env.in_time("what must be ready", due.max(receive.inv), receive.ret)?;
        ack_all(consumer, &batch).await?;
        came.extend(batch.into_iter().map(|delivery| Arrival { delivery, receive }));
    }
    Ok(came)
}

async fn what_a_dropped_consumer_leased_comes_back(env: Env) -> Outcome {
    let (queue, q) = env.declared("gone").await?;
    let consumer = attentive(&env, &queue, &q).await?;
    for level in [3, 9, 1, 7, 5] {
        publish_one(&queue, &q, Message::new(level.to_string()).with_priority(Priority::new(level)?)).await?;
    }
    let other = env.open().await?;
    let holder = other.subscribe(&env.subscription(&q)).await?;
    let mut ends = Instant::now();
    for _ in 0..5 {
        let delivery = receive_one(&*holder, patience(&env)).await?;
        ends = ends.max(delivery.lease_until);
    }
    drop(holder);
    let came = all_by(&env, &*consumer, 5, ends).await?;
    let mut levels = Vec::new();
    for arrival in &came {
        ensure_eq!(arrival.delivery.attempt, 2, "the attempt: it was handed out before");
        ensure_eq!(arrival.delivery.message.priority().to_string(), arrival.text(), "the priority");
        levels.push(arrival.delivery.message.priority().get());
    }
    levels.sort_unstable();
    ensure_eq!(levels, [1, 3, 5, 7, 9], "what came back");
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-DEL-01",
        "without faults 5,000 messages come exactly once each, as attempt 1",
        ["S-DEL-1", "S-DEL-3", "S-DEL-4", "S-ATT-2"],
        Safety,
        [],
        without_faults_each_message_comes_exactly_once
    ),
    case!(
        "C-DEL-02",
        "what somebody holds is not handed out again",
        ["S-DEL-3", "S-LSE-1"],
        Safety,
        [],
        what_is_leased_is_not_handed_out_again
    ),
    case!(
        "C-DEL-03",
        "a waiting receive wakes at once, an empty one ends after its wait and leaves others waiting",
        ["S-PUB-1"],
        Liveness,
        [],
        a_waiting_receive_wakes_and_an_empty_one_ends
    ),
    case!(
        "C-DEL-04",
        "a receive takes what is there, never more than asked, and waits for no more",
        ["S-PUB-1", "S-PRI-2"],
        Both,
        [],
        a_receive_takes_what_is_there_and_waits_for_no_more
    ),
    case!(
        "C-DEL-05",
        "a receive dropped at any of its polls loses nothing",
        ["S-DEL-1", "S-ATT-1", "S-ATT-2"],
        Safety,
        [],
        a_dropped_receive_loses_nothing
    ),
    case!(
        "C-DEL-06",
        "what a dropped consumer leased comes back by the end of its lease, as attempt 2",
        ["S-DEL-1", "S-ATT-1", "S-LSE-2", "S-PRI-4"],
        Safety,
        [],
        what_a_dropped_consumer_leased_comes_back
    ),
];
