//! Declarations: bindings come and go at once, what exists stays as it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Dedup, Error, Message, MessageId, Overflow, Queue, QueueName, QueueSpec, RoutingKey};
use tokio::sync::watch;
use tokio::time::sleep;

use super::admin::not_found;
use super::crowd::in_tasks;
use super::hand::numbered;
use super::route::{bound, came_to, declare_bound, invalid, key, pattern};
use crate::verbs::{publish_all, publish_one};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

const ROUNDS: usize = 50;

/// Other clients publish all the time; what must and must not reach the queue is judged by the history, and by one message in
/// each state of the binding.
async fn bindings_change_under_load(env: Env) -> Outcome {
    let (queue, publisher) = (env.open().await?, env.open().await?);
    let always = declare_bound(&env, &queue, "always", &["t.#"]).await?;
    let spec = bound(&env, "sometimes", &["t.*"])?;
    queue.declare(&QueueSpec::new(spec.name.clone())).await?;
    let (stop, stopped) = watch::channel(false);
    let load = (0..2).map(|_| load(env.clone(), stopped.clone()));
    let load = tokio::spawn(in_tasks(load.collect::<Vec<_>>()));
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        queue.declare(&spec).await?;
        queue.declare(&spec).await?;
        inside.push(publish_one(&publisher, key("t.x")?, Message::new("inside")).await?);
        queue.unbind(&spec.name, &pattern("t.*")?).await?;
        outside.push(publish_one(&publisher, key("t.x")?, Message::new("outside")).await?);
        queue.unbind(&spec.name, &pattern("t.*")?).await?;
    }
    stop.send_replace(true);
    let sent = load.await.map_err(|panic| panic.to_string())??.concat();
    let came = came_to(&env, &queue, &spec.name).await?;
    env.drained(&spec.name);
    let missed = inside.iter().filter(|id| !came.contains(*id)).count();
    let stray = outside.iter().filter(|id| came.contains(*id)).count();
    ensure_eq!((missed, stray), (0, 0), "missed after a bind, and strayed after an unbind, of {ROUNDS}");
    let all: BTreeSet<MessageId> = sent.into_iter().chain(inside).chain(outside).collect();
    let strange: Vec<_> = came.difference(&all).collect();
    ensure_eq!(strange, Vec::<&MessageId>::new(), "what came that nobody sent");
    ensure_eq!(came_to(&env, &queue, &always).await?, all, "what came to the queue that was always bound");
    env.drained(&always);
    Ok(())
}

async fn load(env: Env, stopped: watch::Receiver<bool>) -> Result<Vec<MessageId>, Fail> {
    let (queue, mut sent) = (env.open().await?, Vec::new());
    while !*stopped.borrow() {
        sent.extend(publish_all(&queue, key("t.y")?, numbered(2)).await?);
        sleep(env.t(0.2)).await;
    }
    Ok(sent)
}

async fn another_declaration_adds_bindings_and_nothing_else(env: Env) -> Outcome {
    let (a, b) = (env.open().await?, env.open().await?);
    let spec = bound(&env, "settled", &["a"])?
        .bound(1000, Overflow::Reject)
        .dead_max_len(5)
        .dead_max_age(Duration::from_secs(3600))
        .dedup(Dedup::window(Duration::from_secs(600)));
    a.declare(&spec).await?;
    let working = {
        let (a, name) = (a.clone(), spec.name.clone());
        tokio::spawn(async move { works(&a, &name).await })
    };
    let without = QueueSpec::new(spec.name.clone());
    for (field, other) in [
        ("bound", spec.clone().bound(999, Overflow::Reject)),
        ("bound", spec.clone().bound(1000, Overflow::Block)),
        ("bound", without.clone()),
        ("dead", spec.clone().dead_max_len(6)),
        ("dead", spec.clone().dead_max_age(Duration::from_secs(60))),
        ("dedup", spec.clone().dedup(Dedup::window(Duration::from_secs(601)))),
        ("dedup", spec.clone().dedup(Dedup::until_ack(Duration::from_secs(600)))),
    ] {
        let other = other.bind(pattern("must not be there")?);
        invalid(b.declare(&other).await, field)?;
    }
    for handle in [&a, &b] {
        ensure_eq!(
            handle.queues().await?,
            std::slice::from_ref(&spec),
            "queues() after refused declarations"
        );
        handle.declare(&spec).await?;
    }
    let sent = working.await.map_err(|panic| panic.to_string())??;
    let (mut more, both) = (spec.clone(), spec.clone().bind(pattern("b.*")?));
    more.bindings = [pattern("b.*")?].into();
    b.declare(&more).await?;
    ensure_eq!(a.queues().await?, [both], "queues() after another binding");
    let mut all: BTreeSet<MessageId> = sent.into_iter().collect();
    for topic in ["a", "b.c"] {
        all.insert(publish_one(&a, key(topic)?, Message::new(topic)).await?);
    }
    ensure_eq!(came_to(&env, &a, &spec.name).await?, all, "what came");
    Ok(())
}

/// Publishes while somebody else declares.
async fn works(queue: &Arc<dyn Queue>, name: &QueueName) -> Result<Vec<MessageId>, Fail> {
    let mut sent = Vec::new();
    for message in numbered(40) {
        sent.push(publish_one(queue, name, message).await?);
    }
    Ok(sent)
}

async fn what_cannot_be_declared_is_refused(env: Env) -> Outcome {
    let queue = env.open().await?;
    let spec = || QueueSpec::new(env.queue_name("never"));
    let year = env.info().limits.delay;
    for (field, spec) in [
        ("bound", spec().bound(0, Overflow::Reject)),
        ("dead letters' max_len", spec().dead_max_len(0)),
        ("dead letters' max_age", spec().dead_max_age(Duration::ZERO)),
        ("dead letters' max_age", spec().dead_max_age(year + Duration::from_millis(1))),
        ("dedup window", spec().dedup(Dedup::window(Duration::ZERO))),
        ("dedup window", spec().dedup(Dedup::until_ack(year + Duration::from_millis(1)))),
    ] {
        invalid(queue.declare(&spec).await, field)?;
    }
    for text in ["a\nb", "\u{7f}", &"k".repeat(201)] {
        ensure!(RoutingKey::new(text).is_err() && pattern(text).is_err(), "{text:?} is taken");
    }
    ensure_eq!(queue.queues().await?, [], "queues() after refused declarations");
    Ok(())
}

async fn unbind_is_idempotent(env: Env) -> Outcome {
    let (queue, name) = env.declared("loose").await?;
    queue.unbind(&name, &pattern("never bound")?).await?;
    let unknown = env.queue_name("unknown");
    not_found(queue.unbind(&unknown, &pattern("a")?).await, &unknown)?;
    queue.declare(&bound(&env, "loose", &["a.*", "b"])?).await?;
    for _ in 0..2 {
        queue.unbind(&name, &pattern("a.*")?).await?;
    }
    ensure_eq!(queue.queues().await?, [bound(&env, "loose", &["b"])?], "what is left");
    let missing = queue.publish(&key("a.x")?.into(), numbered(1)).await;
    ensure!(matches!(missing, Err(Error::NotFound(_))), "a publish to what was unbound answered {missing:?}");
    let id = publish_one(&queue, key("b")?, Message::new("b")).await?;
    ensure_eq!(came_to(&env, &queue, &name).await?, BTreeSet::from([id]), "what came by the other binding");
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-TOP-06",
        "bound and unbound fifty times under load: nothing missed, nothing strayed",
        ["S-TOP-4"],
        Safety,
        [],
        bindings_change_under_load
    ),
    case!(
        "C-TOP-10",
        "unbinding what is not bound does nothing; an unknown queue is NotFound",
        ["S-TOP-4", "S-TOP-3"],
        Safety,
        [],
        unbind_is_idempotent
    ),
    case!(
        "C-VAL-09",
        "a declaration that differs is Invalid, names what differs and harms nobody; bindings are added",
        ["S-ADM-5", "S-VAL-4", "S-TOP-4"],
        Safety,
        [],
        another_declaration_adds_bindings_and_nothing_else
    ),
    case!(
        "C-VAL-10",
        "a declaration outside the limits is refused and makes nothing",
        ["S-ADM-5", "S-VAL-4"],
        Safety,
        [],
        what_cannot_be_declared_is_refused
    ),
];
