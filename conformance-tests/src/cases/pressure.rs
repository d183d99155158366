//! BPR: what a slow consumer costs, and a broker that says nothing.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use polyqueue::{
    DeadFilter, Message, MessageId, Page, Purge, Queue, QueueName, QueueSpec, Reschedule, Verdict,
};
use tokio::time::{sleep, timeout};

use super::arrival::{patience, timed};
use super::crowd::{declared_for_thousands, drain_in_batches};
use super::hand::{PATIENCE, hold, numbered, steady};
use crate::link::Direction;
use crate::verbs::{eventually, publish_all, publish_one, receive_one};
use crate::{Case, Env, Outcome, case, ensure, ensure_eq};

async fn a_slow_consumer_holds_what_it_asked_for(env: Env) -> Outcome {
    const N: usize = 10_000;
    const PREFETCH: usize = 10;
    let (queue, name) = declared_for_thousands(&env, "slow").await?;
    publish_all(&queue, &name, numbered(N)).await?;
    let slow_client = env.open().await?;
    let slow = slow_client.subscribe(&steady(&env, &name).prefetch(PREFETCH)).await?;
    let leased = hold(&*slow, 1).await?;
    ensure_eq!(leased.len(), 1, "in the hands of the slow one");
    let fast = queue.subscribe(&steady(&env, &name)).await?;
    drain_in_batches(&env, &*fast, N - PREFETCH, 500).await?;
    drop(slow);
    slow_client.close().await.map_err(Into::into)
}

/// Bytes are counted on the wire: what a client was never sent it cannot hold.
async fn large_messages_wait_at_the_broker(env: Env) -> Outcome {
    const MIB: usize = 1024 * 1024;
    const N: u64 = 60;
    const PREFETCH: u64 = 4;
    let (queue, name) = declared_for_thousands(&env, "large").await?;
    for _ in 0..N / 10 {
        publish_all(&queue, &name, (0..10).map(|_| Message::new(vec![7; MIB])).collect()).await?;
    }
    for prefetch in [0, PREFETCH] {
        let linked = env.link().await?;
        let subscription = steady(&env, &name).prefetch(prefetch as usize).max_attempts(NonZeroU32::MAX);
        let consumer = linked.queue.subscribe(&subscription).await?;
        receive_one(&*consumer, PATIENCE).await?;
        let mut before = 0;
        // It is at rest when nothing comes any more.
        eventually(&env, PATIENCE, "a wire at rest", || {
            let now = linked.link.traffic().to_client;
            let rests = now < std::mem::replace(&mut before, now) + 1024;
            async move {
                sleep(Duration::from_millis(100)).await;
                Ok(rests.then_some(()))
            }
        })
        .await?;
        // One more than it holds, and one that somebody before it had in hand: that may have to be put back into its order.
        let (sent, most) = (linked.link.traffic().to_client, (prefetch.max(1) + 2) * MIB as u64);
        ensure!(sent <= most, "with a prefetch of {prefetch} {sent} bytes came, for one message in hand");
        linked.queue.close().await?;
    }
    ensure_eq!(queue.purge(&name, Purge::Waiting).await? <= N, true, "purged");
    Ok(())
}

type Verb = (&'static str, Duration, BoxFuture<'static, polyqueue::Result<()>>);

/// Nothing comes through any more, in either direction, and no connection ends: each call does, by its deadline.
async fn silence_ends_by_the_deadline(env: Env) -> Outcome {
    let deadline = Duration::from_secs(2);
    let (direct, name) = env.declared("silent").await?;
    let linked = env.link().await?;
    let url = linked.url.clone();
    let queue = env
        .open_with(|mut options| {
            options.url = url;
            options.deadline(deadline)
        })
        .await?;
    let consumer: Arc<dyn polyqueue::Consumer> = queue.subscribe(&steady(&env, &name)).await?.into();
    publish_one(&queue, &name, Message::new("in hand")).await?;
    let leased = receive_one(&*consumer, PATIENCE).await?;
    linked.link.swallow(Direction::ToBroker);
    linked.link.swallow(Direction::ToClient);
    env.note_fault();
    let wait = env.t(1.0);
    let mut verbs = verbs(&queue, &name);
    let (receiving, settling) = (consumer.clone(), consumer.clone());
    verbs.push(("receive", wait, Box::pin(async move { receiving.receive(1, wait).await.map(drop) })));
    let verdict = [(leased.receipt.clone(), Verdict::Ack)];
    verbs.push((
        "settle",
        Duration::ZERO,
        Box::pin(async move { settling.settle(&verdict).await?.remove(0).map(drop) }),
    ));
    let ends = verbs.into_iter().map(|(verb, more, call)| async move {
        (verb, more, timed(timeout(deadline + more + PATIENCE, call)).await)
    });
    for (verb, more, (answer, span)) in join_all(ends).await {
        let what = format!("the end of {verb} at its deadline");
        env.in_time_by(&what, span.inv + deadline + more, span.ret, Duration::from_secs(1))?;
        // A receive may have nothing to tell; everything else has failed.
        match answer {
            Err(_) => return Err(format!("{verb} hangs").into()),
            Ok(Ok(())) => ensure_eq!(verb, "receive", "the verb that silence is no error for"),
            Ok(Err(error)) => ensure!(error.is_transient(), "{verb} answered {error:?}"),
        }
    }
    let (health, span) = timed(queue.health()).await;
    ensure!(!health.healthy, "the health of a silent broker is good: {health:?}");
    env.in_time_by("the health of a silent broker", span.inv, span.ret, Duration::from_secs(2))?;
    linked.link.heal();
    let works = async || Ok(queue.stats(&name).await.is_ok().then_some(()));
    eventually(&env, patience(&env), "the handle works again", works).await?;
    a_silent_close_ends(&env, &linked, queue, deadline).await?;
    direct.purge(&name, Purge::Waiting).await?;
    Ok(())
}

fn verbs(queue: &Arc<dyn Queue>, name: &QueueName) -> Vec<Verb> {
    fn verb<F>(name: &'static str, call: F) -> Verb
    where
        F: Future<Output = polyqueue::Result<()>> + Send + 'static,
    {
        (name, Duration::ZERO, Box::pin(call))
    }
    let (q, to) = (|| queue.clone(), || name.clone());
    let (a, b) = ((q(), to()), (q(), to()));
    let (c, d, e, f) = ((q(), to()), (q(), to()), (q(), to()), (q(), to()));
    let unknown = MessageId::random();
    vec![
        verb("publish", async move {
            a.0.publish(&(&a.1).into(), vec![Message::new("silent")]).await?.remove(0).map(drop)
        }),
        verb("stats", async move { b.0.stats(&b.1).await.map(drop) }),
        verb("declare", async move {
            let other = QueueName::new("declared in silence")?;
            c.0.declare(&QueueSpec::new(other)).await
        }),
        verb("purge", async move { d.0.purge(&d.1, Purge::Dead).await.map(drop) }),
        verb("dead_letters", async move {
            e.0.dead_letters(&e.1, &DeadFilter::all(), Page::first(10)).await.map(drop)
        }),
        verb("reschedule", async move {
            match f.0.reschedule(&f.1, &unknown, Reschedule::Cancel).await {
                Err(error @ polyqueue::Error::Unsupported { .. }) => {
                    // Said at once, without asking the broker: as good as an error of silence.
                    tracing::debug!(%error, "the broker was not asked");
                    Err(polyqueue::Error::timeout(
                        "reschedule",
                        Duration::ZERO,
                        polyqueue::Certainty::Definite,
                    ))
                }
                other => other.map(drop),
            }
        }),
    ]
}

async fn a_silent_close_ends(
    env: &Env,
    linked: &crate::LinkedQueue,
    queue: Arc<dyn Queue>,
    deadline: Duration,
) -> Outcome {
    linked.link.swallow(Direction::ToBroker);
    linked.link.swallow(Direction::ToClient);
    let (closed, span) = timed(timeout(deadline + patience(env), queue.close())).await;
    ensure!(closed.is_ok(), "close hangs");
    env.in_time_by(
        "the end of close at its deadline",
        span.inv + deadline,
        span.ret,
        Duration::from_secs(1),
    )?;
    linked.link.cut();
    linked.link.heal();
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-BPR-03",
        "a consumer that settles nothing holds no more than its prefetch of ten thousand",
        ["S-BPR-2", "S-PRI-3"],
        Safety,
        [],
        a_slow_consumer_holds_what_it_asked_for
    ),
    case!(
        "C-BPR-07",
        "what a consumer has not asked for stays at the broker, byte by byte",
        ["S-BPR-2"],
        Safety,
        [Link],
        large_messages_wait_at_the_broker
    ),
    case!(
        "C-BPR-04",
        "a broker that says nothing ends each call by its deadline",
        ["S-BPR-3"],
        Both,
        [Link],
        silence_ends_by_the_deadline
    ),
];
