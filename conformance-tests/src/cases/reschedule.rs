//! ADM: a message that waits may be called off, put off, or called sooner.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Consumer, Error, Message, MessageId, Queue, QueueName, Reschedule, Verdict};

use super::admin::not_found;
use super::arrival::{Arrival, Span, apply, attentive, timed};
use super::hand::{Counts, PATIENCE, counts, nothing_else_is_ready, steady};
use super::route::invalid;
use crate::verbs::{dead_all, publish_one, receive_one};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

const HOUR: Duration = Duration::from_secs(3600);

/// Reschedules what is there; when the call began and ended.
async fn moved(
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    id: &MessageId,
    to: Reschedule,
) -> Result<Span, Fail> {
    let (answer, span) = timed(queue.reschedule(name, id, to)).await;
    ensure_eq!(answer?, true, "whether {id} was there to be rescheduled ({to:?})");
    Ok(span)
}

async fn delayed(
    queue: &Arc<dyn Queue>,
    name: &QueueName,
    text: &'static str,
    delay: Duration,
) -> Result<MessageId, Fail> {
    publish_one(queue, name, Message::new(text).with_delay(delay)).await
}

async fn later_sooner_or_never(env: Env) -> Outcome {
    let (queue, name) = env.declared("moved").await?;
    let other = env.open().await?;
    let consumer = attentive(&env, &queue, &name).await?;
    let sooner = delayed(&queue, &name, "sooner", HOUR).await?;
    let never = delayed(&queue, &name, "never", env.t(6.0)).await?;
    let later = delayed(&queue, &name, "later", env.t(4.0).max(env.hiccups(6))).await?;
    moved(&queue, &name, &never, Reschedule::Cancel).await?;
    let to = env.t(8.0).max(env.hiccups(12));
    let put_off = moved(&other, &name, &later, Reschedule::After(to)).await?;
    let called = moved(&other, &name, &sooner, Reschedule::After(env.t(1.0))).await?;
    let first = Arrival::acked(&env, &*consumer).await?;
    ensure_eq!(first.delivery.message.id(), &sooner, "what came first");
    first.waited(&env, called, env.t(1.0))?;
    let second = Arrival::acked(&env, &*consumer).await?;
    ensure_eq!(second.delivery.message.id(), &later, "what came second");
    second.waited(&env, put_off, to)?;
    ensure_eq!((first.delivery.attempt, second.delivery.attempt), (1, 1), "attempts");
    let now = delayed(&queue, &name, "now", HOUR).await?;
    let called = moved(&queue, &name, &now, Reschedule::After(Duration::ZERO)).await?;
    let third = Arrival::acked(&env, &*consumer).await?;
    ensure_eq!(third.delivery.message.id(), &now, "what was called at once");
    third.waited(&env, called, Duration::ZERO)?;
    nothing_else_is_ready(&queue, &name, &*consumer).await?;
    counts(&queue.stats(&name).await?, Counts::default(), "at the end")?;
    ensure_eq!(dead_all(&queue, &name).await?.len(), 0, "dead letters of what was cancelled");
    env.drained(&name);
    Ok(())
}

async fn a_retry_that_waits_is_delayed_too(env: Env) -> Outcome {
    let (queue, name) = env.declared("retried").await?;
    let consumer = queue.subscribe(&steady(&env, &name)).await?;
    for (text, sooner) in [("again", true), ("no more", false)] {
        let id = publish_one(&queue, &name, Message::new(text)).await?;
        let came = Arrival::next(&env, &*consumer).await?;
        apply(&*consumer, &came.delivery, Verdict::retry(HOUR, "later")).await?;
        let to = if sooner { Reschedule::After(env.t(1.0)) } else { Reschedule::Cancel };
        let span = moved(&queue, &name, &id, to).await?;
        if sooner {
            let again = Arrival::acked(&env, &*consumer).await?;
            again.waited(&env, span, env.t(1.0))?;
            let seen = (again.delivery.attempt, again.delivery.message.retries());
            ensure_eq!(seen, (2, 1), "attempt and retries");
            ensure_eq!(again.delivery.message.last_error(), Some("later"), "the error that sent it back");
        }
    }
    nothing_else_is_ready(&queue, &name, &*consumer).await?;
    counts(&queue.stats(&name).await?, Counts::default(), "at the end")
}

/// Only what waits in this queue can be moved.
async fn nothing_else_can_be_moved(env: Env) -> Outcome {
    let (queue, name) = env.declared("unmoved").await?;
    let elsewhere = env.queue_name("elsewhere");
    queue.declare(&elsewhere.clone().into()).await?;
    let there = delayed(&queue, &elsewhere, "there", HOUR).await?;
    let leased = publish_one(&queue, &name, Message::new("leased")).await?;
    let consumer: Box<dyn Consumer> = queue.subscribe(&steady(&env, &name)).await?;
    let in_hand = receive_one(&*consumer, PATIENCE).await?;
    let ready = publish_one(&queue, &name, Message::new("ready")).await?;
    for id in [MessageId::random(), MessageId::new("é %{x}")?, leased, ready.clone(), there.clone()] {
        for to in [Reschedule::Cancel, Reschedule::After(HOUR), Reschedule::After(Duration::ZERO)] {
            ensure_eq!(queue.reschedule(&name, &id, to).await?, false, "whether {id} could be moved");
        }
    }
    let unknown = env.queue_name("unknown");
    not_found(queue.reschedule(&unknown, &there, Reschedule::Cancel).await, &unknown)?;
    let beyond = env.info().limits.delay + Duration::from_millis(1);
    invalid(queue.reschedule(&elsewhere, &there, Reschedule::After(beyond)).await, "delay")?;
    moved(&queue, &elsewhere, &there, Reschedule::Cancel).await?;
    ensure_eq!(queue.reschedule(&elsewhere, &there, Reschedule::Cancel).await?, false, "cancelled twice");
    super::arrival::ack(&*consumer, &in_hand).await?;
    let next = receive_one(&*consumer, PATIENCE).await?;
    ensure_eq!(next.message.id(), &ready, "what was ready");
    super::arrival::ack(&*consumer, &next).await
}

/// Where it cannot be done the answer is `Unsupported`, at once, and nothing has changed.
async fn what_cannot_be_done_is_not_half_done(env: Env) -> Outcome {
    let (queue, name) = env.declared("fixed").await?;
    let consumer = attentive(&env, &queue, &name).await?;
    let delay = env.t(2.0).max(env.hiccups(6));
    let (id, published) = timed(publish_one(&queue, &name, Message::new("fixed").with_delay(delay))).await;
    let id = id?;
    for to in [Reschedule::Cancel, Reschedule::After(HOUR), Reschedule::After(Duration::ZERO)] {
        match timed(queue.reschedule(&name, &id, to)).await {
            (Err(Error::Unsupported { what, .. }), span) => {
                ensure!(!what.is_empty(), "it does not say what");
                env.in_time("the answer that it is unsupported", span.inv, span.ret)?;
            }
            // Where it can be done the other cases say how.
            (answer, _) => {
                answer?;
                return Ok(());
            }
        }
    }
    let came = Arrival::acked(&env, &*consumer).await?;
    ensure_eq!((came.delivery.message.id(), came.delivery.attempt), (&id, 1), "what came");
    came.waited(&env, published, delay)?;
    nothing_else_is_ready(&queue, &name, &*consumer).await
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-ADM-10",
        "a delayed message is put off, called sooner, or called off for good",
        ["S-ADM-6", "S-DEL-4"],
        Both,
        [Reschedule],
        later_sooner_or_never
    ),
    case!(
        "C-ADM-11",
        "what waits for its retry is rescheduled as well",
        ["S-ADM-6", "S-RET-4"],
        Both,
        [Reschedule],
        a_retry_that_waits_is_delayed_too
    ),
    case!(
        "C-ADM-12",
        "what does not wait in this queue cannot be rescheduled",
        ["S-ADM-6", "S-VAL-4"],
        Safety,
        [Reschedule],
        nothing_else_can_be_moved
    ),
    case!(
        "C-ADM-13",
        "where nothing can be rescheduled the answer is Unsupported, and nothing has changed",
        ["S-ADM-6"],
        Safety,
        [],
        what_cannot_be_done_is_not_half_done
    ),
];
