//! BPR: a queue that is full says so, waits, or makes room; nothing is lost in silence.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Certainty, Consumer, DeadReason, Error, Message, MessageId, Overflow, Priority, Published, Queue,
    QueueName, QueueSpec, Settled, Verdict,
};
use tokio::time::sleep;

use super::arrival::{ack, timed};
use super::hand::{
    Counts, GRAIN, PATIENCE, counts, hold, ids, level, numbered, redrive_all, settle_all, steady,
};
use super::route::{bound, came_to, key, pattern};
use crate::verbs::{dead_all, publish_all, publish_any, publish_one, receive_one};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

const ROOM: u64 = 10;

async fn declared(
    env: &Env,
    queue: &Arc<dyn Queue>,
    name: &str,
    overflow: Overflow,
) -> Result<QueueName, Fail> {
    let spec = QueueSpec::new(env.queue_name(name)).bound(ROOM, overflow);
    queue.declare(&spec).await?;
    Ok(spec.name)
}

/// The ids of those that were stored; all others must have found no room, for certain.
fn sorted(answers: Vec<polyqueue::Result<Published>>) -> Result<(Vec<MessageId>, usize), Fail> {
    let (mut stored, mut refused) = (Vec::new(), 0);
    for answer in answers {
        match answer {
            Ok(published) => stored.push(published.id),
            Err(error) => {
                full(Err(error))?;
                refused += 1;
            }
        }
    }
    Ok((stored, refused))
}

fn full(answer: polyqueue::Result<Published>) -> Outcome {
    match answer {
        Err(Error::Full { limit, .. }) => {
            ensure_eq!(limit, ROOM, "the limit that is named");
            Ok(())
        }
        other => Err(format!("a publish to a full queue answered {other:?}").into()),
    }
}

async fn a_full_queue_refuses(env: Env) -> Outcome {
    let queue = env.open().await?;
    let name = declared(&env, &queue, "refusing", Overflow::Reject).await?;
    let (stored, refused) = sorted(queue.publish(&(&name).into(), numbered(30)).await?)?;
    ensure_eq!((stored.len(), refused), (10, 20), "stored and refused");
    for message in numbered(3) {
        full(publish_any(&queue, &name, message).await?)?;
    }
    ensure_eq!(queue.stats(&name).await?.counters.refused, 23, "refused, counted");
    ensure_eq!(queue.stats(&name).await?.counters.published, 10, "published, counted");
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    let leased = hold(&*consumer, 3).await?;
    ensure_eq!(ids(&leased), stored[..3], "what was stored, in order");
    // What is in hand takes no room, nor what is delayed or dead; what comes back always enters.
    let more = publish_all(&queue, &name, numbered(3)).await?;
    let delayed = Message::new("delayed").with_delay(env.t(1.0));
    let (delayed, span) = timed(publish_one(&queue, &name, delayed)).await;
    full(publish_any(&queue, &name, Message::new("full again")).await?)?;
    let again = [Verdict::retry(Duration::ZERO, "again"), Verdict::Release { after: Duration::ZERO }];
    for (delivery, verdict) in leased.iter().zip(again) {
        let one = std::slice::from_ref(delivery);
        settle_all(&*consumer, one, |_| verdict.clone(), Settled::Applied).await?;
    }
    settle_all(&*consumer, &leased[2..], |_| Verdict::reject("no"), Settled::Died).await?;
    redrive_all(&queue, &name).await?;
    let delayed = delayed?;
    let there = stored.len() + more.len() + 1;
    env.by(span.ret + env.t(1.0), "what was delayed is ready", async || {
        counts(&queue.stats(&name).await?, Counts { ready: there as u64, ..Counts::default() }, "fuller")
    })
    .await?;
    full(publish_any(&queue, &name, Message::new("fuller")).await?)?;
    queue_holds(&env, &queue, &name, stored.into_iter().chain(more).chain([delayed]).collect()).await
}

/// These are there, each once; emptied it takes messages again.
async fn queue_holds(
    env: &Env,
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    expected: BTreeSet<MessageId>,
) -> Outcome {
    let consumer = queue.subscribe(&steady(env, name)).await?;
    let leased = hold(&*consumer, expected.len()).await?;
    ensure_eq!(ids(&leased).into_iter().collect::<BTreeSet<_>>(), expected, "what is there");
    settle_all(&*consumer, &leased, |_| Verdict::Ack, Settled::Applied).await?;
    counts(&queue.stats(name).await?, Counts::default(), "emptied")?;
    publish_one(queue, name, Message::new("room")).await?;
    ack(&*consumer, &receive_one(&*consumer, PATIENCE).await?).await
}

async fn a_full_queue_makes_room(env: Env) -> Outcome {
    let queue = env.open().await?;
    let spec = QueueSpec::new(env.queue_name("dropping")).bound(ROOM, Overflow::DropOldest);
    match queue.declare(&spec).await {
        Ok(()) => {}
        Err(Error::Unsupported { .. }) => {
            ensure_eq!(queue.queues().await?, [], "queues() after a declaration that is not supported");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    }
    let name = spec.name;
    let (mut rng, mut model, mut dropped) = (env.rng(), Vec::<(Priority, MessageId)>::new(), Vec::new());
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    // One that was tried before is as old as it is.
    let tried = publish_one(&queue, &name, Message::new("tried").with_priority(level(1))).await?;
    let leased = vec![receive_one(&*consumer, PATIENCE).await?];
    let again = Verdict::retry(Duration::ZERO, "again");
    settle_all(&*consumer, &leased, |_| again.clone(), Settled::Applied).await?;
    model.push((level(1), tried.clone()));
    for _ in 0..30 {
        let message = Message::new("").with_priority(level(1 + rng.below(4) as u8));
        model.push((message.priority(), publish_one(&queue, &name, message).await?));
        if model.len() as u64 > ROOM {
            let lowest = model.iter().map(|it| it.0).min().unwrap_or_default();
            let oldest = model.iter().position(|it| it.0 == lowest).unwrap_or_default();
            dropped.push(model.remove(oldest).1);
        }
    }
    let dead_letters = dead_all(&queue, &name).await?;
    let died: Vec<MessageId> =
        dead_letters.iter().filter_map(|it| Some(it.message()?.id().clone())).collect();
    ensure_eq!(died, dropped, "what died to make room, oldest death first");
    for dead_letter in &dead_letters {
        ensure_eq!(dead_letter.reason, DeadReason::Overflow, "the reason");
        ensure!(!dead_letter.error.is_empty(), "no error text");
        let attempts = u32::from(dead_letter.message().map(Message::id) == Some(&tried));
        ensure_eq!(dead_letter.attempts, attempts, "attempts of {:?}", dead_letter.id);
    }
    ensure_eq!(queue.stats(&name).await?.counters.overflowed, dropped.len() as u64, "overflowed, counted");
    model.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    let left: Vec<MessageId> = model.into_iter().map(|(_, id)| id).collect();
    let leased = hold(&*consumer, ROOM as usize).await?;
    ensure_eq!(ids(&leased), left, "what is left, by priority");
    settle_all(&*consumer, &leased, |_| Verdict::Ack, Settled::Applied).await?;
    counts(
        &queue.stats(&name).await?,
        Counts { dead: dropped.len() as u64, ..Counts::default() },
        "at the end",
    )
}

/// Deadlines of a publish that may wait: long enough that what it does before counts for nothing.
fn deadline(env: &Env) -> Duration {
    env.t(2.0).max(env.hiccups(8))
}

async fn a_full_queue_makes_publishers_wait(env: Env) -> Outcome {
    let queue = env.open().await?;
    let name = declared(&env, &queue, "blocking", Overflow::Block).await?;
    let mut sent = publish_all(&queue, &name, numbered(ROOM as usize)).await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    let eleventh = {
        let (queue, name) = (env.open().await?, name.clone());
        tokio::spawn(async move { timed(publish_one(&queue, &name, Message::new("eleventh"))).await })
    };
    sleep(env.t(2.0)).await;
    ensure!(!eleventh.is_finished(), "a publish to a full queue did not wait");
    counts(&queue.stats(&name).await?, Counts { ready: ROOM, ..Counts::default() }, "while one waits")?;
    let ((), freed) = {
        let (first, span) = timed(take(&*consumer)).await;
        sent.retain(|id| Some(id) != first.as_ref().ok());
        (first.map(drop)?, span)
    };
    let (id, waited) = eleventh.await.map_err(|panic| panic.to_string())?;
    sent.push(id?);
    env.in_time("the publish for which there is room", freed.ret, waited.ret)?;
    nobody_makes_room(&env, &queue, &name).await?;
    a_batch_enters_as_room_comes(&env, &queue, &name, &*consumer, &mut sent).await?;
    let leased = hold(&*consumer, sent.len()).await?;
    ensure_eq!(ids(&leased), sent, "what is there, in order");
    settle_all(&*consumer, &leased, |_| Verdict::Ack, Settled::Applied).await
}

/// Takes the next message away.
async fn take(consumer: &dyn Consumer) -> Result<MessageId, Fail> {
    let delivery = receive_one(consumer, PATIENCE).await?;
    ack(consumer, &delivery).await?;
    Ok(delivery.message.id().clone())
}

async fn nobody_makes_room(env: &Env, other: &Arc<dyn Queue>, name: &QueueName) -> Outcome {
    let deadline = deadline(env);
    let queue = env.open_with(|options| options.deadline(deadline)).await?;
    queue.stats(name).await?;
    let (answer, span) = timed(publish_any(&queue, name, Message::new("in vain"))).await;
    match answer? {
        Err(error @ Error::Timeout { .. }) => {
            ensure_eq!(
                error.certainty(),
                Certainty::Definite,
                "whether it is certain that it was not stored"
            );
            ensure!(
                error.to_string().contains(name.as_str()),
                "it does not say where there was no room: {error}"
            );
        }
        other => return Err(format!("a publish that waited in vain answered {other:?}").into()),
    }
    let took = span.took();
    ensure!(took + GRAIN + env.lateness() >= deadline, "it waited {took:?}, its deadline is {deadline:?}");
    env.in_time("the end of a publish at its deadline", span.inv + deadline, span.ret)?;
    ensure_eq!(queue.stats(name).await?.counters.refused, 1, "refused, counted");
    counts(&other.stats(name).await?, Counts { ready: ROOM, ..Counts::default() }, "after it")
}

/// A batch that has no room enters item by item; what has none by the deadline is refused, each for itself.
async fn a_batch_enters_as_room_comes(
    env: &Env,
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    consumer: &dyn Consumer,
    sent: &mut Vec<MessageId>,
) -> Outcome {
    let client = env.open_with(|options| options.deadline(2 * deadline(env))).await?;
    client.stats(name).await?;
    let batch = numbered(5);
    let all: Vec<MessageId> = batch.iter().map(|message| message.id().clone()).collect();
    let waiting = {
        let name = name.clone();
        tokio::spawn(async move { client.publish(&(&name).into(), batch).await })
    };
    for _ in 0..3 {
        let gone = take(consumer).await?;
        sent.retain(|id| *id != gone);
    }
    let answers = waiting.await.map_err(|panic| panic.to_string())??;
    let stored = answers.iter().take_while(|answer| answer.is_ok()).count();
    ensure_eq!((answers.len(), stored), (5, 3), "answers, and how many found room");
    for answer in &answers[stored..] {
        let definite = matches!(answer, Err(Error::Timeout { certainty: Certainty::Definite, .. }));
        ensure!(definite, "an item without room answered {answer:?}");
    }
    sent.extend_from_slice(&all[..stored]);
    counts(&queue.stats(name).await?, Counts { ready: ROOM, ..Counts::default() }, "after the batch")
}

/// One full queue of a topic holds back the whole message.
async fn a_topic_has_as_much_room_as_its_fullest_queue(env: Env) -> Outcome {
    let queue = env.open().await?;
    let wide = bound(&env, "wide", &["t"])?;
    let narrow = declared_bound(&env, "narrow", Overflow::Reject, "t")?;
    let patient = declared_bound(&env, "patient", Overflow::Block, "wait")?;
    for spec in [&wide.clone().bind(pattern("wait")?), &narrow, &patient] {
        queue.declare(spec).await?;
    }
    publish_all(&queue, &narrow.name, numbered(ROOM as usize)).await?;
    publish_all(&queue, &patient.name, numbered(ROOM as usize)).await?;
    full(publish_any(&queue, key("t")?, Message::new("whole")).await?)?;
    ensure_eq!(came_to(&env, &queue, &wide.name).await?, [].into(), "copies of a message that was refused");
    let delayed = Message::new("delayed").with_delay(Duration::from_secs(3600));
    publish_one(&queue, key("t")?, delayed).await?;
    let waiting = {
        let (queue, topic) = (queue.clone(), key("wait")?);
        tokio::spawn(async move { publish_one(&queue, &topic, Message::new("patient")).await })
    };
    sleep(env.t(1.0)).await;
    ensure!(!waiting.is_finished(), "a publish to a full queue of a topic did not wait");
    let consumer = queue.subscribe(&steady(&env, &patient.name)).await?;
    take(&*consumer).await?;
    let id = waiting.await.map_err(|panic| panic.to_string())??;
    ensure_eq!(came_to(&env, &queue, &wide.name).await?, [id.clone()].into(), "what came to the wide one");
    let leased = hold(&*consumer, ROOM as usize).await?;
    ensure_eq!(leased.last().map(|it| it.message.id()), Some(&id), "the last in the one that was full");
    settle_all(&*consumer, &leased, |_| Verdict::Ack, Settled::Applied).await
}

fn declared_bound(env: &Env, name: &str, overflow: Overflow, text: &str) -> Result<QueueSpec, Fail> {
    Ok(bound(env, name, &[text])?.bound(ROOM, overflow))
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-BPR-01",
        "a full queue refuses what has no room, for certain, and takes what comes back",
        ["S-BPR-1", "S-BAT-2", "S-ADM-4"],
        Safety,
        [],
        a_full_queue_refuses
    ),
    case!(
        "C-BPR-02",
        "a full queue makes publishers wait for room, by their deadline",
        ["S-BPR-1", "S-PUB-2", "S-BAT-3"],
        Both,
        [],
        a_full_queue_makes_publishers_wait
    ),
    case!(
        "C-BPR-05",
        "a full queue makes room by the death of the oldest of the lowest priority, or cannot be declared",
        ["S-BPR-1", "S-DLQ-1", "S-DEL-1"],
        Safety,
        [],
        a_full_queue_makes_room
    ),
    case!(
        "C-BPR-06",
        "one full queue of a topic holds back the whole message",
        ["S-BPR-1", "S-TOP-5", "S-PUB-2"],
        Safety,
        [],
        a_topic_has_as_much_room_as_its_fullest_queue
    ),
];
