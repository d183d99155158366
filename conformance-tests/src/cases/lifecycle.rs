//! Lifecycle: a closed handle says so at once, whatever was under way ends truthfully, and a dropped one leaves nothing.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all, try_join_all};
use futures_util::poll;
use polyqueue::{
    Certainty, Consumer, DeadFilter, DeadId, Destination, Error, Inbox, Message, MessageId, Page, Purge,
    Queue, QueueName, QueueSpec, Receipt, Reschedule, Subscription, Verdict,
};
use tokio::time::{Instant, sleep};

use super::hand::{PATIENCE, drain_to_sentinel, nothing_else_is_ready, numbered, once_each, steady};
use super::interrupt::Victim;
use super::route::{key, pattern};
use crate::verbs::{eventually, publish_one, receive_one};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

type Verb<'a> = (&'static str, Box<dyn Fn() -> BoxFuture<'a, polyqueue::Result<()>> + Send + Sync + 'a>);

/// A verb that can be called again and again, its answer reduced to Ok or the error.
fn verb<'a, T, F>(name: &'static str, call: impl Fn() -> F + Send + Sync + 'a) -> Verb<'a>
where
    F: Future<Output = polyqueue::Result<T>> + Send + 'a,
{
    (
        name,
        Box::new(move || {
            let answer = call();
            Box::pin(async move { answer.await.map(|_| ()) })
        }),
    )
}

async fn a_closed_handle_says_so(env: Env) -> Outcome {
    let (queue, name) = env.declared("closed").await?;
    let other = env.open().await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    let inbox = queue.inbox().await?;
    publish_one(&queue, &name, Message::new("in hand")).await?;
    let receipt = receive_one(&*consumer, PATIENCE).await?.receipt;
    for time in 1..=3 {
        let answer = queue.close().await;
        ensure!(answer.is_ok(), "close, time {time}, answered {answer:?}");
    }
    let subscription = env.subscription(&name);
    let verbs = every_verb(&queue, &*consumer, &name, &subscription, &receipt);
    for (verb, call) in verbs.into_iter().chain(newer_verbs(&queue, &*inbox, &name)?) {
        let mut fastest = Duration::MAX;
        for _ in 0..3 {
            let start = Instant::now();
            let answer = call().await;
            fastest = fastest.min(start.elapsed());
            ensure!(matches!(answer, Err(Error::Closed)), "{verb} on a closed handle answered {answer:?}");
        }
        // The best of three is the verb's own; the others may be the machine's.
        ensure!(fastest <= Duration::from_millis(10), "{verb} took {fastest:?} to say so");
    }
    ensure_eq!(queue.info().provider, env.info().provider, "info() of a closed handle");
    queue.health().await;
    let answer = consumer.close().await;
    ensure!(answer.is_ok(), "close of a consumer of a closed handle answered {answer:?}");
    let answer = queue.close().await;
    ensure!(answer.is_ok(), "close after all that answered {answer:?}");
    counts_nothing_new(&other, &name).await
}

fn every_verb<'a>(
    queue: &'a Arc<dyn Queue>,
    consumer: &'a dyn Consumer,
    name: &'a QueueName,
    subscription: &'a Subscription,
    receipt: &'a Receipt,
) -> Vec<Verb<'a>> {
    vec![
        verb("declare", move || async move { queue.declare(&QueueSpec::new(name.clone())).await }),
        verb("publish", move || async move { queue.publish(&name.into(), numbered(1)).await }),
        verb("subscribe", move || async move { queue.subscribe(subscription).await }),
        verb("queues", move || queue.queues()),
        verb("delete", move || queue.delete(name)),
        verb("stats", move || queue.stats(name)),
        verb("purge", move || queue.purge(name, Purge::Waiting)),
        verb("dead_letters", move || async move {
            queue.dead_letters(name, &DeadFilter::all(), Page::first(10)).await
        }),
        verb("redrive", move || async move { queue.redrive(name, &[DeadId::new("1")]).await }),
        verb("discard", move || async move { queue.discard(name, &[DeadId::new("1")]).await }),
        verb("receive", move || consumer.receive(1, PATIENCE)),
        verb("settle", move || async move { consumer.settle(&[(receipt.clone(), Verdict::Ack)]).await }),
        verb("extend", move || async move { consumer.extend(std::slice::from_ref(receipt)).await }),
    ]
}

/// Those of topics, replies and what is rescheduled.
fn newer_verbs<'a>(
    queue: &'a Arc<dyn Queue>,
    inbox: &'a dyn Inbox,
    name: &'a QueueName,
) -> Result<Vec<Verb<'a>>, Fail> {
    let (topic, pattern) = (Destination::from(key("a.b")?), pattern("a.*")?);
    let (id, reply) = (MessageId::random(), Destination::from(inbox.address()));
    let publish = move |to: &Destination| {
        let to = to.clone();
        async move { queue.publish(&to, numbered(1)).await }
    };
    Ok(vec![
        verb("publish to a topic", move || publish(&topic)),
        verb("publish of a reply", move || publish(&reply)),
        verb("unbind", move || {
            let pattern = pattern.clone();
            async move { queue.unbind(name, &pattern).await }
        }),
        verb("reschedule", move || {
            let id = id.clone();
            async move { queue.reschedule(name, &id, Reschedule::Cancel).await }
        }),
        verb("inbox", move || queue.inbox()),
        verb("namespace", move || async move { queue.namespace("child") }),
        verb("receive of an inbox", move || inbox.receive(PATIENCE)),
    ])
}

/// None of the refused verbs had an effect: the one message is still there, in hand or on its way back.
async fn counts_nothing_new(other: &Arc<dyn Queue>, name: &QueueName) -> Outcome {
    let stats = other.stats(name).await?;
    ensure!(stats.ready + stats.in_flight.unwrap_or(0) <= 1, "{stats:?} after calls on a closed handle");
    ensure_eq!((stats.dead, stats.delayed.unwrap_or(0)), (0, 0), "dead and delayed");
    Ok(())
}

/// More often than a task of tokio's may do something before it is its neighbours' turn.
const CALLS: usize = 300;

async fn a_loop_of_verbs_lets_others_run(env: Env) -> Outcome {
    let (queue, name) = env.declared("looped").await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    let inbox = queue.inbox().await?;
    publish_one(&queue, &name, Message::new("in hand")).await?;
    let receipt = receive_one(&*consumer, PATIENCE).await?.receipt;
    let subscription = env.subscription(&name);
    let mut verbs = every_verb(&queue, &*consumer, &name, &subscription, &receipt);
    verbs.extend(newer_verbs(&queue, &*inbox, &name)?);
    // One ends the queue, one is awaited by nobody, and two wait.
    verbs.retain(|(verb, _)| !verb.starts_with("receive") && !["delete", "namespace"].contains(verb));
    verbs.push(verb("receive", || consumer.receive(1, Duration::ZERO)));
    verbs.push(verb("receive of an inbox", || inbox.receive(Duration::ZERO)));
    verbs.push(verb("health", || async { Ok(queue.health().await) }));
    for (verb, call) in verbs {
        let had_a_turn = AtomicBool::new(false);
        let mut calls = pin!(async {
            for _ in 0..CALLS {
                // What it answers is another case's.
                let _answer = call().await;
                if had_a_turn.load(Relaxed) {
                    break;
                }
            }
        });
        let waits = poll!(&mut calls).is_pending();
        ensure!(waits, "{CALLS} calls of {verb} in a row let no other task of their thread run");
        had_a_turn.store(true, Relaxed);
        calls.await;
    }
    Ok(())
}

async fn close_ends_what_is_under_way(env: Env) -> Outcome {
    let (other, name) = env.declared("ending").await?;
    let (quiet, queue) = (env.queue_name("quiet"), env.open().await?);
    queue.declare(&quiet.clone().into()).await?;
    let consumers =
        try_join_all((0..5).map(|_| async { queue.subscribe(&steady(&env, &quiet)).await })).await?;
    let receives = join_all(consumers.iter().map(|consumer| async {
        let answer = consumer.receive(1, 4 * PATIENCE).await;
        (answer, Instant::now())
    }));
    let publishes =
        join_all(
            numbered(100).into_iter().map(|message| {
                let (queue, to, id) = (&queue, (&name).into(), message.id().clone());
                async move {
                    (id, queue.publish(&to, vec![message]).await.and_then(|mut answers| answers.remove(0)))
                }
            }),
        );
    let closing = async {
        sleep(env.t(0.02)).await;
        let answer = queue.close().await;
        (answer, Instant::now())
    };
    let (received, published, (closed, at)) = tokio::join!(receives, publishes, closing);
    closed?;
    for (answer, ended) in received {
        ensure!(matches!(answer, Err(Error::Closed)), "a blocked receive ended with {answer:?}");
        env.in_time("the end of a blocked receive after close", at, ended)?;
    }
    let answers = published.into_iter().map(|(id, answer)| (id, answer.map(|_| ()))).collect();
    told_the_truth(&env, &other, &name, answers).await
}

/// What was answered Ok is there once, what failed for certain is not, what is unknown may be.
async fn told_the_truth(
    env: &Env,
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    answers: Vec<(MessageId, polyqueue::Result<()>)>,
) -> Outcome {
    let there: BTreeSet<MessageId> = once_each(drain_to_sentinel(env, queue, name).await?)?;
    for (id, answer) in answers {
        match answer.as_ref().map_err(Error::certainty) {
            Ok(()) => ensure!(there.contains(&id), "{id} was published Ok and is not there"),
            Err(Certainty::Definite) => {
                ensure!(!there.contains(&id), "{id} failed definitely ({answer:?}) and is there")
            }
            Err(Certainty::Unknown) => {}
        }
    }
    Ok(())
}

/// By when what a dropped handle had must be gone. No time is promised; a client library may notice by a heartbeat.
const GONE: Duration = Duration::from_secs(30);

async fn dropped_handles_leave_nothing(env: Env) -> Outcome {
    let (queue, name) = env.declared("dropped").await?;
    let victim = Victim::open(&env).await?;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (tasks_before, open_before) = (tasks(), victim.connections());
    for _ in 0..10 {
        try_join_all((0..20).map(|_| used_and_dropped(&env, &victim, &name))).await?;
    }
    eventually(&env, GONE, "every connection ended", async || {
        Ok((victim.connections() <= open_before).then_some(()))
    })
    .await?;
    let ended = eventually(&env, GONE, "", async || Ok((tasks() <= tasks_before).then_some(()))).await;
    ensure!(ended.is_ok(), "{tasks_before} tasks before, {} after {GONE:?}", tasks());
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    nothing_else_is_ready(&queue, &name, &*consumer).await
}

/// Opens a handle, uses each part of it, and drops it as it is.
async fn used_and_dropped(env: &Env, victim: &Victim, name: &QueueName) -> Outcome {
    let queue = victim.another(env).await?;
    let consumer = queue.subscribe(&steady(env, name)).await?;
    let came = consumer.receive(1, Duration::from_millis(1)).await?;
    ensure!(came.is_empty(), "came though nothing was published: {came:?}");
    let inbox = queue.inbox().await?;
    let came = inbox.receive(Duration::from_millis(1)).await?;
    ensure!(came.is_empty(), "came though nobody replied: {came:?}");
    queue.stats(name).await?;
    Ok(())
}

async fn many_handles_make_one_set_of_objects(env: Env) -> Outcome {
    let names: Vec<QueueName> = (0..5).map(|i| env.queue_name(&format!("shared {i}"))).collect();
    let handles = try_join_all((0..50).map(|i| one_of_many(&env, &names, i))).await?;
    for handle in handles.iter().step_by(7) {
        let listed: Vec<QueueName> = handle.queues().await?.into_iter().map(|spec| spec.name).collect();
        ensure_eq!(listed, names, "queues()");
    }
    for name in &names {
        let came = once_each(drain_to_sentinel(&env, &handles[0], name).await?)?;
        ensure_eq!(came.len(), 50, "messages in {name:?}, one from each handle");
    }
    Ok(())
}

/// Opens a handle, declares every queue in an order of its own and publishes one message to each.
async fn one_of_many(env: &Env, names: &[QueueName], i: usize) -> Result<Arc<dyn Queue>, Fail> {
    let queue = env.open().await?;
    for turn in 0..names.len() {
        let name = &names[(i + turn) % names.len()];
        queue.declare(&name.clone().into()).await?;
        publish_one(&queue, name, Message::new(i.to_string())).await?;
    }
    Ok(queue)
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-LIF-01",
        "close is idempotent, and afterwards every verb says Closed at once",
        ["S-LIF-1"],
        Safety,
        [],
        a_closed_handle_says_so
    ),
    case!(
        "C-LIF-02",
        "close ends blocked receives, and publishes under way answer truly",
        ["S-LIF-1", "S-PUB-2"],
        Both,
        [],
        close_ends_what_is_under_way
    ),
    case!(
        "C-LIF-04",
        "200 handles dropped without close leave no task and no connection",
        ["S-LIF-3"],
        Safety,
        [],
        dropped_handles_leave_nothing
    ),
    case!(
        "C-LIF-06",
        "fifty handles that declare at once make one set of queues",
        ["S-ADM-5", "S-PUB-1", "S-DEL-3", "S-VAL-3"],
        Safety,
        [],
        many_handles_make_one_set_of_objects
    ),
    case!(
        "C-LIF-07",
        "whoever calls a verb again and again lets the other tasks of the thread run",
        ["S-LIF-4"],
        Safety,
        [],
        a_loop_of_verbs_lets_others_run
    ),
];
