//! Names and other input: what is allowed works and is distinct, what is not is refused before anything is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use polyqueue::{
    Backoff, Certainty, Connecting, DeadFilter, Destination, Error, Message, PROVIDER_VAR, Page, Priority,
    Provider, QueueName, RetryPolicy, Settled, Verdict, from_env,
};
use tokio::time::Instant;

use super::hand::{PATIENCE, hold, nothing_else_is_ready, settle_all, steady};
use crate::verbs::{publish_all, publish_one, receive_one, settle_one};
use crate::{Case, Env, Outcome, case, ensure, ensure_eq};

/// It is refused as `Invalid`, definitely, naming the field, the position `at` in a batch of messages, and what is allowed.
pub(super) fn refused<T>(result: polyqueue::Result<T>, name: &str, at: Option<usize>) -> Outcome {
    let Err(error) = result else { return Err(format!("a wrong {name} was accepted").into()) };
    ensure_eq!(error.certainty(), Certainty::Definite, "certainty of {error}");
    match &error {
        Error::Invalid { field, index, allowed } => {
            ensure!(field.contains(name), "{field} is named instead of {name}: {error}");
            ensure!(at.is_none() || *index == at, "{error} names not position {at:?}");
            ensure!(!allowed.is_empty(), "{error} does not say what is allowed");
            Ok(())
        }
        other => Err(format!("a wrong {name} answered {other:?}").into()),
    }
}

/// Names that are easily taken for something else.
fn tricky_names() -> Vec<String> {
    let plain = [
        "q",
        "é-队列-😀",
        "a:b",
        "a.b",
        "{x}",
        "}{",
        "%s",
        "*",
        "#",
        "#.orders",
        "../..",
        "caf\u{e9}",
        "cafe\u{301}",
        "Mail",
        "mail",
        " mail",
        "catalogue",
        "unrouted",
        "dead",
        "dead.mail",
        "topics",
        "delay.0.1",
        "due",
        "q.mail",
        "mail:dlq",
        "mail:s:5",
        "s:5",
    ];
    let mut names: Vec<String> = plain.map(str::to_owned).into();
    names.extend(["n".repeat(200), "é".repeat(100)]);
    names
}

async fn every_name_is_its_own_queue(env: Env) -> Outcome {
    let queue = env.open().await?;
    let names: Vec<QueueName> = tricky_names().iter().map(|name| env.queue_name(name)).collect();
    for name in &names {
        queue.declare(&name.clone().into()).await?;
        let later = Message::new(format!("later {name:?}")).with_delay(env.t(1.0));
        publish_all(&queue, name, vec![Message::new(format!("now {name:?}")), later]).await?;
    }
    let listed: BTreeSet<QueueName> = queue.queues().await?.into_iter().map(|spec| spec.name).collect();
    ensure_eq!(listed, names.iter().cloned().collect(), "queues()");
    for name in &names {
        let consumer = queue.subscribe(&steady(&env, name)).await?;
        for when in ["now", "later"] {
            let leased = hold(&*consumer, 1).await?;
            let payload = String::from_utf8_lossy(leased[0].message.payload());
            ensure_eq!(payload, format!("{when} {name:?}"), "received from {name:?}");
            settle_all(&*consumer, &leased, |_| Verdict::Ack, Settled::Applied).await?;
        }
        nothing_else_is_ready(&queue, name, &*consumer).await?;
    }
    Ok(())
}

async fn bad_names_are_refused(env: Env) -> Outcome {
    let (queue, ab) = env.declared("ab").await?;
    let start = Instant::now();
    let long = "n".repeat(201);
    let table: BTreeMap<&str, &str> = [
        ("", "empty"),
        (&*long, "too long"),
        ("a\nb", "control character"),
        ("a\rb", "control character"),
        ("\0", "control character"),
        ("a\u{85}b", "control character"),
        ("a\u{7f}", "control character"),
        ("amq.x", "reserved"),
    ]
    .into();
    for (name, rule) in table {
        let answer = QueueName::new(name).map_err(Error::from);
        let text = answer.as_ref().map_or_else(Error::to_string, |_| String::new());
        refused(answer, "queue name", None)?;
        ensure!(text.contains(rule), "{text:?} does not name the rule {rule:?}");
    }
    env.in_time_by("refusals of names", start, Instant::now(), Duration::from_secs(1))?;
    let consumer = queue.subscribe(&steady(&env, &ab)).await?;
    nothing_else_is_ready(&queue, &ab, &*consumer).await?;
    let listed: Vec<QueueName> = queue.queues().await?.into_iter().map(|spec| spec.name).collect();
    ensure_eq!(listed, [ab], "queues()");
    Ok(())
}

async fn bad_input_is_refused(env: Env) -> Outcome {
    for level in [0, 11, -1, 255] {
        refused(Priority::new(level), "priority", None)?;
    }
    let second = Duration::from_secs(1);
    for factor in [f64::NAN, f64::INFINITY, 0.5, -2.0] {
        refused(Backoff::new(second, factor, 9 * second), "backoff factor", None)?;
    }
    refused(Backoff::new(2 * second, 2.0, second), "backoff maximum", None)?;
    refused(Backoff::default().jitter(f64::NAN), "backoff jitter", None)?;
    refused(RetryPolicy::new(0, Backoff::default()), "max attempts", None)?;
    unknown_provider_lists_the_known()?;
    refused(env.try_open_with(|options| options.namespace("No Such")).await, "namespace", None)?;
    refused(env.try_open_with(|options| options.deadline(Duration::ZERO)).await, "deadline", None)?;
    let (queue, name) = env.declared("strict").await?;
    let subscription = || env.subscription(&name);
    let day = Duration::from_secs(24 * 60 * 60);
    for lease in [Duration::ZERO, Duration::from_micros(999), day + Duration::from_millis(1)] {
        refused(queue.subscribe(&subscription().lease(lease)).await, "lease", None)?;
    }
    refused(queue.subscribe(&subscription().consumer("c".repeat(201))).await, "consumer", None)?;
    let to = Destination::from(&name);
    let delayed = Message::new("x").with_delay(365 * day + Duration::from_millis(1));
    refused(queue.publish(&to, vec![Message::new("good"), delayed]).await, "delay", Some(1))?;
    refused(queue.publish(&to, vec![Message::new("x").with_kind("k".repeat(201))]).await, "kind", Some(0))?;
    for limit in [0, Page::MAX + 1] {
        refused(queue.dead_letters(&name, &DeadFilter::all(), Page::first(limit)).await, "page limit", None)?;
    }
    let consumer = queue.subscribe(&subscription()).await?;
    refused(consumer.receive(1, day + Duration::from_millis(1)).await, "wait", None)?;
    nothing_asked_is_nothing_done(&env, &name).await?;
    nothing_else_is_ready(&queue, &name, &*consumer).await
}

fn unknown_provider_lists_the_known() -> Outcome {
    fn never(_: polyqueue::ConnectOptions) -> Connecting {
        Box::pin(async { Err(Error::Closed) })
    }
    let ours = Provider::new("ours", &["ours"], "OURS_URL", "ours://", never);
    let answer = from_env(&[ours], |name| (name == PROVIDER_VAR).then(|| "kafka".into()));
    let text = answer.as_ref().map_or_else(Error::to_string, |_| String::new());
    ensure!(
        text.contains("kafka") && text.contains("ours"),
        "{text:?} names not both what was given and what is known"
    );
    refused(answer, PROVIDER_VAR, None)
}

/// Empty calls are Ok and do nothing; a verdict that cannot be is refused and leaves the message in hand.
async fn nothing_asked_is_nothing_done(env: &Env, name: &QueueName) -> Outcome {
    let queue = env.open().await?;
    let consumer = queue.subscribe(&steady(env, name)).await?;
    publish_one(&queue, name, Message::new("in hand")).await?;
    let start = Instant::now();
    ensure_eq!(consumer.receive(0, PATIENCE).await?.len(), 0, "what receive(0) brought");
    ensure!(start.elapsed() < PATIENCE / 2, "receive(0) took {:?}", start.elapsed());
    ensure_eq!(consumer.settle(&[]).await?.len(), 0, "what settle of nothing answered");
    ensure_eq!(consumer.extend(&[]).await?.len(), 0, "what extend of nothing answered");
    ensure_eq!(
        queue.publish(&Destination::from(name), vec![]).await?.len(),
        0,
        "what publish of nothing answered"
    );
    ensure_eq!(queue.redrive(name, &[]).await?.len(), 0, "what redrive of nothing answered");
    ensure_eq!(queue.discard(name, &[]).await?.len(), 0, "what discard of nothing answered");
    let delivery = receive_one(&*consumer, PATIENCE).await?;
    ensure_eq!(delivery.attempt, 1, "attempt after a receive(0)");
    let after = Duration::from_secs(366 * 24 * 60 * 60);
    for verdict in [Verdict::retry(after, "no"), Verdict::Release { after }] {
        let answers = consumer.settle(&[(delivery.receipt.clone(), verdict)]).await;
        refused(answers.and_then(|mut answers| answers.remove(0)), "after", None)?;
    }
    ensure_eq!(
        settle_one(&*consumer, &delivery.receipt, Verdict::Ack).await?,
        Settled::Applied,
        "ack after all that"
    );
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-VAL-04",
        "names that look alike or like a backend's own are different queues",
        ["S-VAL-3"],
        Safety,
        [],
        every_name_is_its_own_queue
    ),
    case!(
        "C-VAL-05",
        "a bad name is refused and aliases none",
        ["S-VAL-3", "S-VAL-4"],
        Safety,
        [],
        bad_names_are_refused
    ),
    case!(
        "C-VAL-06",
        "bad input is refused by name before anything is sent; empty calls do nothing",
        ["S-VAL-4", "S-DLY-5", "S-BAT-1", "S-BAT-4"],
        Safety,
        [],
        bad_input_is_refused
    ),
];
