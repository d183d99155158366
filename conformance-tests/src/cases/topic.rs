//! TOP: which queues a message to a topic reaches.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;
use polyqueue::{Message, MessageId, QueueName};

use super::hand::drain_to_sentinel;
use super::route::{bound, came_to, declare_bound, key, pattern, reaches_nobody};
use crate::verbs::{publish_all, publish_one};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

/// Patterns, and for each the keys that it must and must not match.
const TABLE: &[(&str, &[&str], &[&str])] = &[
    ("", &[""], &["a", ".", "a.b"]),
    ("a", &["a"], &["", "b", "a.", ".a", "a.b", "A"]),
    ("a.b", &["a.b"], &["a", "a.b.c", "b.a", "a..b"]),
    ("*", &["a", "*", "#"], &["", "a.b", "."]),
    ("*.*", &["a.b", ".", "a.", ".a"], &["a", "a.b.c", ".."]),
    ("*.b", &["a.b", ".b"], &["b", "a.a.b"]),
    ("a.*", &["a.b", "a."], &["a", "a.b.c"]),
    ("a.*.c", &["a.b.c", "a..c"], &["a.c", "a.b.b.c"]),
    ("#", &["", "a", "a.b.c", ".", ".."], &[]),
    ("#.#", &["", "a", "a.b"], &[]),
    ("#.b", &["b", "a.b", "a.a.b", ".b"], &["", "a", "b.a", "b."]),
    ("a.#", &["a", "a.b", "a.b.c", "a."], &["", "b.a"]),
    ("a.#.b", &["a.b", "a.x.b", "a.x.y.b", "a.b.b", "a..b"], &["a", "b", "a.b.x"]),
    ("a.*.#", &["a.b", "a.b.c", "a."], &["a", "b.a"]),
    ("#.*", &["a", "a.b", "."], &[""]),
    ("a..b", &["a..b"], &["a.b", "a.x.b"]),
    ("a.", &["a."], &["a", "a.b"]),
    (".a", &[".a"], &["a", "a.a"]),
    ("a*", &["a*"], &["ab", "a"]),
    ("größe.*.日本", &["größe.x.日本"], &["große.x.日本"]),
];

async fn patterns_are_those_of_amqp(env: Env) -> Outcome {
    let rows = TABLE.iter().map(|(_, good, bad)| good.len() + bad.len()).sum::<usize>();
    ensure!(rows >= 60, "the table has {rows} rows");
    for (text, good, bad) in TABLE {
        for (one, expected) in good.iter().map(|k| (k, true)).chain(bad.iter().map(|k| (k, false))) {
            ensure_eq!(pattern(text)?.matches(&key(one)?), expected, "{text:?} matches {one:?}");
        }
    }
    let queue = env.open().await?;
    let keys: BTreeSet<&str> =
        TABLE.iter().flat_map(|(_, good, bad)| good.iter().chain(*bad)).copied().collect();
    let names = (0..).map(|n| format!("bound {n}"));
    let specs: Vec<_> = names
        .zip(TABLE)
        .map(|(name, (text, ..))| bound(&env, &name, &[text]))
        .collect::<Result<_, Fail>>()?;
    try_join_all(specs.iter().map(|spec| queue.declare(spec))).await?;
    let mut sent: BTreeMap<MessageId, &str> = BTreeMap::new();
    for text in keys {
        sent.insert(publish_one(&queue, key(text)?, Message::new(text)).await?, text);
    }
    for (spec, (text, ..)) in specs.iter().zip(TABLE) {
        let came: BTreeSet<&str> =
            came_to(&env, &queue, &spec.name).await?.iter().filter_map(|id| sent.get(id).copied()).collect();
        let expected: BTreeSet<&str> = matching(text, sent.values())?;
        ensure_eq!(came, expected, "what came by {text:?}");
    }
    Ok(())
}

fn matching<'a>(text: &str, keys: impl Iterator<Item = &'a &'a str>) -> Result<BTreeSet<&'a str>, Fail> {
    let pattern = pattern(text)?;
    let mut all = BTreeSet::new();
    for one in keys {
        if pattern.matches(&key(one)?) {
            all.insert(*one);
        }
    }
    Ok(all)
}

async fn many_bindings_are_one_copy(env: Env) -> Outcome {
    let queue = env.open().await?;
    let name = declare_bound(&env, &queue, "five", &["a.b", "a.*", "#", "*.b", "a.#"]).await?;
    let batch = vec![Message::new("1"), Message::new("2"), Message::new("3")];
    let sent = publish_all(&queue, key("a.b")?, batch).await?;
    ensure_eq!(drain_to_sentinel(&env, &queue, &name).await?, sent, "what came, in order");
    ensure_eq!(queue.stats(&name).await?.counters.published, 4, "published, with the sentinel");
    let delayed = Message::new("delayed").with_delay(env.t(1.0));
    let delayed = publish_one(&queue, key("a.b")?, delayed).await?;
    let consumer = queue.subscribe(&env.subscription(&name)).await?;
    let came = super::arrival::Arrival::acked(&env, &*consumer).await?;
    ensure_eq!(came.delivery.message.id(), &delayed, "the delayed one");
    ensure_eq!(came.delivery.queue, name, "the queue of its delivery");
    ensure_eq!(came_to(&env, &queue, &name).await?, [].into(), "second copies");
    Ok(())
}

/// Three services of two instances each: one is addressed by its own name, by what it is, and with all others.
async fn one_some_or_all_services(env: Env) -> Outcome {
    let queue = env.open().await?;
    let mut names: Vec<(String, QueueName)> = Vec::new();
    for service in ["ears", "eyes", "brain"] {
        for instance in 1..=2 {
            let own = format!("message.{service}.{instance}");
            let kind = format!("message.{service}");
            let name = declare_bound(&env, &queue, &own, &[&own, &kind, "message.all"]).await?;
            names.push((own, name));
        }
    }
    for (text, reached) in [("message.eyes.2", 1), ("message.brain", 2), ("message.all", 6)] {
        let id = publish_one(&queue, key(text)?, Message::new(text)).await?;
        let mut by = Vec::new();
        for (own, name) in &names {
            let came = came_to(&env, &queue, name).await?;
            ensure!(came.iter().all(|it| *it == id), "{own} got something else: {came:?}");
            by.extend((!came.is_empty()).then_some(own));
        }
        ensure_eq!(by.len(), reached, "queues that {text:?} reached ({by:?})");
        let mean = |own: &String| text == "message.all" || own.starts_with(text);
        ensure!(by.iter().all(|own| mean(own)), "{text:?} reached {by:?}");
    }
    reaches_nobody(&queue, &key("message.ears.3")?, Message::new("nobody")).await
}

async fn no_match_is_not_found(env: Env) -> Outcome {
    let (queue, other) = (env.open().await?, env.open().await?);
    let topic = key("order.paid")?;
    reaches_nobody(&queue, &topic, Message::new("before anything")).await?;
    // A queue's name is no binding.
    queue.declare(&bound(&env, "order.paid", &[])?).await?;
    reaches_nobody(&queue, &topic, Message::new("a name")).await?;
    let name = declare_bound(&env, &queue, "bound", &["order.*"]).await?;
    reaches_nobody(&queue, &key("order")?, Message::new("too short")).await?;
    let there = publish_one(&other, &topic, Message::new("there")).await?;
    ensure_eq!(came_to(&env, &queue, &name).await?, BTreeSet::from([there]), "what came while it was bound");
    queue.unbind(&name, &pattern("order.*")?).await?;
    for publisher in [&queue, &other] {
        reaches_nobody(publisher, &topic, Message::new("unbound")).await?;
    }
    queue.declare(&bound(&env, "bound", &["order.*"])?).await?;
    queue.delete(&name).await?;
    for publisher in [&queue, &other] {
        for message in [Message::new("deleted"), Message::new("deleted").with_delay(env.t(1.0))] {
            reaches_nobody(publisher, &topic, message).await?;
        }
    }
    let batch = other.publish(&topic.into(), vec![Message::new("1"), Message::new("2")]).await;
    ensure!(matches!(batch, Err(polyqueue::Error::NotFound(_))), "a batch answered {batch:?}");
    queue.declare(&name.clone().into()).await?;
    ensure_eq!(came_to(&env, &queue, &name).await?, [].into(), "what came to a new queue from before");
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-TOP-01",
        "a table of patterns and keys, published for real, is that of AMQP",
        ["S-TOP-1"],
        Safety,
        [],
        patterns_are_those_of_amqp
    ),
    case!(
        "C-TOP-02",
        "a queue that is bound five times gets one copy",
        ["S-TOP-2"],
        Safety,
        [],
        many_bindings_are_one_copy
    ),
    case!(
        "C-TOP-03",
        "one instance, one kind or all services are reached by their keys",
        ["S-TOP-1", "S-TOP-2"],
        Safety,
        [],
        one_some_or_all_services
    ),
    case!(
        "C-TOP-07",
        "a message to a topic that nobody is bound to, any more or yet, is NotFound",
        ["S-TOP-3", "S-PUB-2"],
        Safety,
        [],
        no_match_is_not_found
    ),
];
