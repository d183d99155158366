//! DLY: never early, whatever happens, and in time when somebody waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures_util::future::try_join_all;
use polyqueue::{Consumer, Delivery, Error, Message, MessageId, Purge, Queue, QueueName, Worker};
use tokio::time::{Instant, sleep, sleep_until};

use super::arrival::{Arrival, Span, ack, attentive, timed};
use super::crew::{Running, Starts};
use super::fault::{fault_and_heal, next_after_fault, publish_after_fault};
use super::route::refused;
use crate::verbs::{publish_one, receive_none, receive_one};
use crate::{Case, Env, Fail, Fault, Outcome, case, ensure, ensure_eq};

/// What was published with which delay, and when.
pub(super) type Waits = BTreeMap<MessageId, (Span, Duration)>;

/// Publishes a message for each delay, one after the other.
pub(super) async fn publish_delayed(
    queue: &Arc<dyn Queue>,
    q: &QueueName,
    delays: &[Duration],
) -> Result<Waits, Fail> {
    let mut waits = Waits::new();
    for &delay in delays {
        let (id, published) = timed(publish_one(queue, q, Message::new("delayed").with_delay(delay))).await;
        waits.insert(id?, (published, delay));
    }
    Ok(waits)
}

/// Acks `n` messages as they come.
pub(super) async fn arrivals(env: &Env, consumer: &dyn Consumer, n: usize) -> Result<Vec<Arrival>, Fail> {
    let mut came = Vec::with_capacity(n);
    while came.len() < n {
        came.push(Arrival::acked(env, consumer).await?);
    }
    Ok(came)
}

/// Each came once, not early and not late.
pub(super) fn each_in_time(env: &Env, mut waits: Waits, came: &[Arrival]) -> Outcome {
    for arrival in came {
        let id = arrival.delivery.message.id();
        let (published, delay) =
            waits.remove(id).ok_or_else(|| format!("{id} came twice, or nobody sent it"))?;
        arrival.waited(env, published, delay)?;
    }
    ensure_eq!(waits.len(), 0, "messages that did not come");
    Ok(())
}

async fn sixty_delays_are_kept(env: Env) -> Outcome {
    let (queue, q) = env.declared("sixty").await?;
    let consumer = attentive(&env, &queue, &q).await?;
    let mut delays: Vec<Duration> = (0..60).map(|n| env.t(0.3 + 4.7 * f64::from(n) / 59.0)).collect();
    env.rng().shuffle(&mut delays);
    let (waits, came) =
        tokio::try_join!(publish_delayed(&queue, &q, &delays), arrivals(&env, &*consumer, delays.len()))?;
    each_in_time(&env, waits, &came)
}

async fn no_delay_and_the_past_are_now(env: Env) -> Outcome {
    let (queue, q) = env.declared("now").await?;
    let consumer = attentive(&env, &queue, &q).await?;
    let zero = Message::new("zero").with_delay(Duration::ZERO);
    let past = Message::new("past").not_before(Utc::now() - TimeDelta::hours(1));
    for message in [zero, past] {
        let id = publish_one(&queue, &q, message).await?;
        let delivery = receive_one(&*consumer, Duration::ZERO).await?;
        ensure_eq!(delivery.message.id(), &id, "what is ready at once");
        ack(&*consumer, &delivery).await?;
    }
    Ok(())
}

async fn a_lone_delayed_message_comes_without_other_traffic(env: Env) -> Outcome {
    let (queue, q) = env.declared("lone").await?;
    let reader = env.open().await?;
    let consumer = attentive(&env, &reader, &q).await?;
    let waiting = Arrival::awaited_aside(&env, consumer);
    sleep(env.t(1.0)).await;
    let lone = Message::new("lone").with_delay(env.t(3.0));
    let (id, published) = timed(publish_one(&queue, &q, lone)).await;
    let (id, arrival) = (id?, waiting.await?);
    ensure_eq!(arrival.delivery.message.id(), &id, "the message");
    env.in_time_by(
        "a receive that must wait before the publish",
        published.inv,
        arrival.receive.inv,
        Duration::ZERO,
    )?;
    arrival.waited(&env, published, env.t(3.0))
}

async fn a_message_becomes_due_without_a_consumer(env: Env) -> Outcome {
    let (queue, q) = env.declared("unattended").await?;
    let waits = publish_delayed(&queue, &q, &[env.t(1.0), env.t(2.0)]).await?;
    let due = Instant::now() + env.t(2.0);
    sleep_until(due + env.lateness()).await;
    let late = env.open().await?;
    let consumer = late.subscribe(&env.subscription(&q)).await?;
    for _ in 0..waits.len() {
        let delivery = there(&env, &*consumer, due).await?;
        ensure!(waits.contains_key(delivery.message.id()), "nobody sent {:?}", delivery.message);
        ack(&*consumer, &delivery).await?;
    }
    Ok(())
}

/// What is there for one who does not wait, for it was due long ago.
async fn there(env: &Env, consumer: &dyn Consumer, due: Instant) -> Result<Delivery, Fail> {
    if let Some(delivery) = consumer.receive(1, Duration::ZERO).await?.pop() {
        return Ok(delivery);
    }
    let delivery = Arrival::next(env, consumer).await?.delivery;
    env.in_time("a message that nobody waited for", due, Instant::now())?;
    Ok(delivery)
}

async fn a_long_delay_blocks_no_shorter_one(env: Env) -> Outcome {
    let (queue, q) = env.declared("no-blocking").await?;
    let consumer = attentive(&env, &queue, &q).await?;
    let delays = [10.0, 1.0, 3.0, 0.5].map(|ticks| env.t(ticks));
    let (waits, came) =
        tokio::try_join!(publish_delayed(&queue, &q, &delays), arrivals(&env, &*consumer, 4))?;
    let order: Vec<(Span, Duration)> =
        came.iter().filter_map(|it| waits.get(it.delivery.message.id()).copied()).collect();
    for (at, (published, delay)) in order.iter().enumerate() {
        // A publish may take so long that a shorter delay, begun after it, ends later.
        let overtaken = |(later, its_delay): &&(Span, Duration)| {
            later.ret + *its_delay + env.t(0.25) < published.inv + *delay
        };
        if let Some((_, shorter)) = order[at..].iter().find(overtaken) {
            return Err(format!(
                "{shorter:?} of delay came after {delay:?} of delay, although due before it"
            )
            .into());
        }
    }
    each_in_time(&env, waits, &came)
}

/// A broker that may undo young acks in a crash is restarted in order: what its crash does to delays is declared apart.
async fn a_delay_survives_a_restart(env: Env) -> Outcome {
    let (queue, q) = env.declared("restart").await?;
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    let delay = env.t(15.0);
    let (id, published) = timed(publish_one(&queue, &q, Message::new("delayed").with_delay(delay))).await;
    let id = id?;
    sleep_until(published.ret + env.t(5.0)).await;
    fault_and_heal(&env, Fault::Kill9).await?;
    publish_after_fault(&env, &queue, &q, "probe").await?;
    let (mut works_since, mut times) = (None, 0);
    while works_since.is_none() || times == 0 {
        let arrival = next_after_fault(&env, &*consumer).await?;
        ack(&*consumer, &arrival.delivery).await?;
        if arrival.delivery.message.id() != &id {
            works_since = works_since.or(Some(arrival.receive.ret));
            continue;
        }
        times += 1;
        arrival.not_early(published, delay)?;
        let due = works_since.map_or(arrival.receive.ret, |since| since.max(published.ret + delay));
        env.in_time("what was due, and its consumer worked again", due, arrival.receive.ret)?;
    }
    publish_one(&queue, &q, Message::new("sentinel").with_delay(env.t(1.0))).await?;
    let mut next = Arrival::acked(&env, &*consumer).await?;
    while next.text() != "sentinel" {
        times += usize::from(next.delivery.message.id() == &id);
        next = Arrival::acked(&env, &*consumer).await?;
    }
    ensure!(times <= 2, "came {times} times");
    Ok(())
}

async fn a_delay_outlives_workers(env: Env) -> Outcome {
    let (queue, q) = env.declared("outlives").await?;
    let delay = env.t(20.0);
    let (id, published) = timed(publish_one(&queue, &q, Message::new("delayed").with_delay(delay))).await;
    let (id, mut starts) = (id?, Starts::new());
    let crew = |starts: &Starts| -> Vec<Running> {
        let worker = || Worker::new(queue.clone()).concurrency(2).lease(env.t(5.0)).retry(env.policy());
        (0..3).map(|_| Running::start(starts.of(worker()), std::slice::from_ref(&q))).collect()
    };
    for restart in [7.0, 14.0] {
        let running = crew(&starts);
        sleep_until(published.inv + env.t(restart)).await;
        ensure_eq!(stopped(running).await?, 0, "handlers that ran before the delay was over");
    }
    let running = crew(&starts);
    let started = starts.next(&env).await?;
    ensure!(Instant::now() >= published.inv + delay, "early");
    ensure_eq!((started.job.message.id(), started.job.attempt), (&id, 1), "the hand-out");
    drop(started);
    publish_one(&queue, &q, Message::new("sentinel")).await?;
    let sentinel = starts.next(&env).await?;
    ensure_eq!(&*sentinel.job.payload, b"sentinel", "what was handed out next");
    drop(sentinel);
    ensure_eq!(stopped(running).await?, 2, "handlers that ran");
    Ok(())
}

/// Stops them all; how many handlers they started.
async fn stopped(running: Vec<Running>) -> Result<u64, Fail> {
    let reports = try_join_all(running.into_iter().map(Running::stop)).await?;
    Ok(reports.iter().map(|report| report.handled).sum())
}

async fn delays_have_limits_and_never_wrap_around(env: Env) -> Outcome {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let (queue, q) = env.declared("limits").await?;
    let limit = env.info().limits.delay;
    ensure!(limit >= 365 * DAY, "delays of 365 days must be accepted, the limit is {limit:?}");
    // 2^32 ms are 49.7 days: what is counted in 32 bits wraps around between these two.
    let far = [49 * DAY, 50 * DAY, limit];
    publish_delayed(&queue, &q, &far).await?;
    let stats = queue.stats(&q).await?;
    let delayed = stats.delayed;
    ensure!(stats.ready == 0 && delayed.is_none_or(|n| n == 3), "{} ready, {delayed:?} delayed", stats.ready);
    for beyond in [limit + Duration::from_millis(1), Duration::MAX] {
        let error =
            refused(queue.publish(&(&q).into(), vec![Message::new("beyond").with_delay(beyond)]).await)?;
        ensure!(matches!(&error, Error::Invalid { field, .. } if field == "delay"), "{beyond:?}: {error}");
    }
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    receive_none(&*consumer, Duration::ZERO).await?;
    let waits = publish_delayed(&queue, &q, &[Duration::from_millis(1)]).await?;
    let came = arrivals(&env, &*consumer, 1).await?;
    each_in_time(&env, waits, &came)?;
    publish_one(&queue, &q, Message::new("sentinel").with_delay(env.t(1.0))).await?;
    ensure_eq!(
        Arrival::acked(&env, &*consumer).await?.text(),
        "sentinel",
        "what comes before days have passed"
    );
    let purged = queue.purge(&q, Purge::Waiting).await?;
    ensure_eq!(purged, delayed.unwrap_or(0), "purged");
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-DLY-01",
        "sixty delays are each kept: never early, and in time",
        ["S-DLY-1", "S-DLY-2", "S-DLY-3"],
        Both,
        [],
        sixty_delays_are_kept
    ),
    case!(
        "C-DLY-02",
        "no delay is now, and so is a time in the past",
        ["S-DLY-5"],
        Safety,
        [],
        no_delay_and_the_past_are_now
    ),
    case!(
        "C-DLY-03",
        "a lone delayed message comes in time without any other traffic",
        ["S-DLY-1", "S-DLY-2"],
        Liveness,
        [],
        a_lone_delayed_message_comes_without_other_traffic
    ),
    case!(
        "C-DLY-04",
        "a message becomes due though no consumer is there",
        ["S-DLY-2"],
        Liveness,
        [],
        a_message_becomes_due_without_a_consumer
    ),
    case!(
        "C-DLY-05",
        "a long delay blocks no shorter one behind it",
        ["S-DLY-1", "S-DLY-2", "S-DLY-3"],
        Liveness,
        [],
        a_long_delay_blocks_no_shorter_one
    ),
    case!(
        "C-DLY-07",
        "a delay goes on through a restart of the broker and does not begin again",
        ["S-DLY-1", "S-DLY-4"],
        Both,
        [Durable, Faults],
        a_delay_survives_a_restart
    ),
    case!(
        "C-DLY-08",
        "a delay longer than leases and workers is one hand-out, attempt 1",
        ["S-DLY-4", "S-DEL-3", "S-ATT-1"],
        Safety,
        [],
        a_delay_outlives_workers
    ),
    case!(
        "C-DLY-09",
        "delays of 1 ms to 365 days are accepted, longer ones refused, none wraps around to now",
        ["S-DLY-1", "S-DLY-5", "S-ADM-2"],
        Safety,
        [],
        delays_have_limits_and_never_wrap_around
    ),
];
