//! Redrive: dead letters come back as they were, each once, whoever asks and whatever happens to who asked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures_util::future::try_join_all;
use polyqueue::{Consumer, DeadId, Message, MessageId, Queue, QueueName, Settled, Verdict};
use tokio::time::Instant;

use super::dead_letter::same_content;
use super::hand::{
    Counts, PATIENCE, counts, dead_letter_all, drain_to_sentinel, hold, ids, level, nothing_else_is_ready,
    numbered, once_each, redrive_all, settle_all, steady,
};
use super::interrupt::{Cut, Victim};
use crate::verbs::{dead_all, publish_all};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

async fn redriven_dead_letters_start_again(env: Env) -> Outcome {
    let (queue, name) = env.declared("again").await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    let sent = twenty_varied();
    publish_all(&queue, &name, sent.clone()).await?;
    exhaust(&*consumer, sent.len()).await?;
    let dead_letters: Vec<DeadId> =
        dead_all(&queue, &name).await?.into_iter().map(|dead_letter| dead_letter.id).collect();
    ensure_eq!(dead_letters.len(), 20, "dead letters");
    ensure_eq!(queue.redrive(&name, &dead_letters[..1]).await?, [true], "one");
    ensure_eq!(
        queue.redrive(&name, &dead_letters[..2]).await?,
        [false, true],
        "one that is gone and one more"
    );
    counts(&queue.stats(&name).await?, Counts { ready: 2, dead: 18, ..Counts::default() }, "after two")?;
    ensure_eq!(queue.redrive(&name, &dead_letters[2..]).await?, [true; 18], "all others");
    ensure_eq!(queue.redrive(&name, &[DeadId::new("nobody")]).await?, [false], "one that never was");
    counts(&queue.stats(&name).await?, Counts { ready: 20, ..Counts::default() }, "after all")?;
    let leased = hold(&*consumer, 20).await?;
    for delivery in &leased {
        ensure_eq!(delivery.attempt, 1, "attempt of a redriven message");
        let Some(sent) = sent.iter().find(|it| it.id() == delivery.message.id()) else {
            return Err(format!("{} was never published", delivery.message.id()).into());
        };
        same_content(&delivery.message, sent)?;
    }
    once_each(ids(&leased))?;
    let order: Vec<u8> = leased.iter().map(|it| it.message.priority().get()).collect();
    ensure!(order.is_sorted_by(|a, b| a >= b), "redriven, they came as {order:?}");
    second_death(&queue, &name, &*consumer, &leased).await
}

fn twenty_varied() -> Vec<Message> {
    let varied = |(i, message): (usize, Message)| {
        message.with_priority(level(1 + i as u8 % 10)).with_header("n", i.to_string()).with_kind("varied")
    };
    numbered(20).into_iter().enumerate().map(varied).collect()
}

/// Fails `n` messages as often as the subscription allows.
async fn exhaust(consumer: &dyn Consumer, n: usize) -> Outcome {
    let retry = |_: &_| Verdict::retry(Duration::ZERO, "boom");
    for answer in [Settled::Applied, Settled::Applied, Settled::Died] {
        let leased = hold(consumer, n).await?;
        settle_all(consumer, &leased, retry, answer).await?;
    }
    Ok(())
}

/// A message that was redriven and dies again remembers both lives; the others are done.
async fn second_death(
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    consumer: &dyn Consumer,
    leased: &[polyqueue::Delivery],
) -> Outcome {
    settle_all(consumer, &leased[..19], |_| Verdict::Ack, Settled::Applied).await?;
    settle_all(consumer, &leased[19..], |_| Verdict::reject("still no"), Settled::Died).await?;
    let dead_letters = dead_all(queue, name).await?;
    let record: Vec<_> =
        dead_letters.iter().map(|it| (it.attempts, it.total_attempts, it.redriven)).collect();
    ensure_eq!(record, [(1, 4, 1)], "attempts, in all, redriven");
    redrive_all(queue, name).await?;
    let again = hold(consumer, 1).await?;
    ensure_eq!((again[0].attempt, ids(&again)), (1, ids(&leased[19..])), "the third life");
    settle_all(consumer, &again, |_| Verdict::Ack, Settled::Applied).await?;
    nothing_else_is_ready(queue, name, consumer).await?;
    counts(&queue.stats(name).await?, Counts::default(), "at the end")
}

async fn racing_redrivers_bring_each_once(env: Env) -> Outcome {
    let (queue, name) = env.declared("raced").await?;
    let sent = dead_letter_all(&env, &queue, &name, numbered(60)).await?;
    let dead_letters: Vec<DeadId> =
        dead_all(&queue, &name).await?.into_iter().map(|dead_letter| dead_letter.id).collect();
    let (one, two) = (env.open().await?, env.open().await?);
    let (mut back, mut forth) = (dead_letters.clone(), dead_letters);
    env.rng().shuffle(&mut back);
    env.rng().shuffle(&mut forth);
    let count = AtomicUsize::new(0);
    let workers = try_join_all((0..4).map(|_| acked_until(&env, &name, sent.len(), &count)));
    let (first, second, handled) =
        tokio::try_join!(in_chunks(&one, &name, &back), in_chunks(&two, &name, &forth), workers)?;
    let made_ready = [first, second].concat();
    let different: BTreeSet<_> = made_ready.iter().collect();
    ensure_eq!(
        (made_ready.len(), different.len()),
        (60, 60),
        "answers `true`, and for how many dead letters"
    );
    ensure_eq!(once_each(handled.concat())?, sent.into_iter().collect(), "messages handled");
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    nothing_else_is_ready(&queue, &name, &*consumer).await?;
    counts(&queue.stats(&name).await?, Counts::default(), "at the end")
}

/// Redrives ten at a time and returns those that it made ready.
async fn in_chunks(
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    dead_letters: &[DeadId],
) -> Result<Vec<DeadId>, Fail> {
    let mut ready = Vec::new();
    for chunk in dead_letters.chunks(10) {
        let answers = queue.redrive(name, chunk).await?;
        ensure_eq!(answers.len(), chunk.len(), "answers to {} ids", chunk.len());
        ready.extend(chunk.iter().zip(answers).filter(|(_, ready)| *ready).map(|(id, _)| id.clone()));
    }
    Ok(ready)
}

/// A worker of its own that acks what comes until `handled` says that all of them together have `n`.
async fn acked_until(
    env: &Env,
    name: &QueueName,
    n: usize,
    handled: &AtomicUsize,
) -> Result<Vec<MessageId>, Fail> {
    let queue = env.open().await?;
    let consumer = queue.subscribe(&steady(env, name)).await?;
    let (mut mine, mut idle_since) = (Vec::new(), Instant::now());
    while handled.load(SeqCst) < n {
        let came = consumer.receive(4, env.t(1.0)).await?;
        settle_all(&*consumer, &came, |_| Verdict::Ack, Settled::Applied).await?;
        if !came.is_empty() {
            idle_since = Instant::now();
        }
        ensure!(
            idle_since.elapsed() < PATIENCE,
            "{} of {n} handled, then nothing more came",
            handled.load(SeqCst)
        );
        handled.fetch_add(came.len(), SeqCst);
        mine.extend(ids(&came));
    }
    Ok(mine)
}

async fn a_crashed_redriver_is_taken_up(env: Env) -> Outcome {
    let (queue, name) = env.declared("resumed").await?;
    one_more_each_life(&env, &queue, &name).await?;
    let dead_letters = twenty_dead_letters(&env, &queue, &name).await?.1;
    let victim = Victim::open(&env).await?;
    let (answer, cuts) = victim.rehearse(victim.queue.redrive(&name, &dead_letters)).await;
    ensure_eq!(answer?, [true; 20], "an undisturbed redrive");
    drain_to_sentinel(&env, &queue, &name).await?;
    for cut in cuts {
        cut_and_taken_up(&env, &queue, &name, cut).await?;
    }
    Ok(())
}

/// Redrivers that die after one dead letter each: the next one finds what is left.
async fn one_more_each_life(env: &Env, queue: &Arc<dyn Queue>, name: &QueueName) -> Outcome {
    let (sent, dead_letters) = twenty_dead_letters(env, queue, name).await?;
    for k in 0..20 {
        let mut expected = vec![false; k];
        expected.push(true);
        let redriver = env.open().await?;
        ensure_eq!(redriver.redrive(name, &dead_letters[..=k]).await?, expected, "after {k} of 20");
        drop(redriver);
    }
    let copies = drain_to_sentinel(env, queue, name).await?;
    ensure_eq!(once_each(copies)?, sent.into_iter().collect(), "messages that came back");
    Ok(())
}

/// A redrive that is cut off, then run again until nothing is missing.
async fn cut_and_taken_up(env: &Env, queue: &Arc<dyn Queue>, name: &QueueName, cut: Cut) -> Outcome {
    let (sent, dead_letters) = twenty_dead_letters(env, queue, name).await?;
    let victim = Victim::open(env).await?;
    let _ = victim.cut(cut, victim.queue.redrive(name, &dead_letters)).await;
    victim.queue.close().await?;
    let mut copies = Vec::new();
    let patience = Instant::now() + PATIENCE;
    while !sent.iter().all(|id| copies.contains(id)) {
        ensure!(Instant::now() < patience, "{cut:?}: {} of 20 came back", copies.len());
        redrive_all(queue, name).await?;
        copies.extend(drain_to_sentinel(env, queue, name).await?);
    }
    ensure!(copies.len() <= 21, "{cut:?}: {} copies of 20, at most one was in the air", copies.len());
    counts(&queue.stats(name).await?, Counts::default(), "at the end")
}

async fn twenty_dead_letters(
    env: &Env,
    queue: &Arc<dyn Queue>,
    name: &QueueName,
) -> Result<(Vec<MessageId>, Vec<DeadId>), Fail> {
    let sent = dead_letter_all(env, queue, name, numbered(20)).await?;
    let dead_letters =
        dead_all(queue, name).await?.into_iter().map(|dead_letter| dead_letter.id).collect::<Vec<_>>();
    ensure_eq!(dead_letters.len(), 20, "dead letters");
    Ok((sent, dead_letters))
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-RDR-01",
        "one, some or all redriven: the same message, attempts from 1, both lives remembered",
        ["S-RDR-1", "S-DEL-4", "S-DEL-5", "S-PRI-4"],
        Safety,
        [],
        redriven_dead_letters_start_again
    ),
    case!(
        "C-RDR-02",
        "two racing redrivers bring each message back once",
        ["S-RDR-1", "S-RDR-2", "S-DLQ-2", "S-DEL-3"],
        Safety,
        [],
        racing_redrivers_bring_each_once
    ),
    case!(
        "C-RDR-03",
        "a redriver that dies anywhere is taken up by the next; at most the one in the air comes twice",
        ["S-RDR-1", "S-RDR-2"],
        Safety,
        [],
        a_crashed_redriver_is_taken_up
    ),
];
