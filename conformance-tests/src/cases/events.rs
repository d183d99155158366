//! Events: what happens to a handle without anybody asking is told, to it and to nobody else.

use polyqueue::{Consumer, DeadReason, Event, Events, Extended, Message, Settled, Verdict};
use tokio::time::timeout;

use super::fault::publish_after_fault;
use super::hand::{PATIENCE, expiring, lease_over, until};
use crate::verbs::{publish_one, receive_one, settle_one};
use crate::{Case, Env, Fail, Garbage, Outcome, case, ensure, ensure_eq};

/// The next event that is asked for; others may come before it.
async fn next(events: &mut Events, what: &str, wanted: impl Fn(&Event) -> bool) -> Result<Event, Fail> {
    let mut others = Vec::new();
    let wait = async {
        loop {
            match events.next().await {
                Some(event) if wanted(&event) => return Ok(event),
                Some(event) => others.push(event),
                None => return Err(Fail::new(format!("the events ended before {what}"))),
            }
        }
    };
    match timeout(PATIENCE, wait).await {
        Ok(found) => found,
        Err(_) => Err(Fail::new(format!("{what} was not told, but {others:?}"))),
    }
}

async fn a_lost_lease_is_told(env: Env) -> Outcome {
    let (queue, name) = env.declared("lost").await?;
    let mut events = queue.events();
    let consumer = queue.subscribe(&expiring(&env, &name)).await?;
    publish_one(&queue, &name, Message::new("slow")).await?;
    let held = receive_one(&*consumer, PATIENCE).await?;
    until(lease_over(tokio::time::Instant::now(), super::hand::brief(&env))).await;
    ensure_eq!(settle_one(&*consumer, &held.receipt, Verdict::Ack).await?, Settled::LeaseLost, "late ack");
    let lost = Event::LeaseLost { queue: name.clone(), receipt: held.receipt.clone() };
    next(&mut events, "the lost lease", |event| *event == lost).await?;
    let extended = consumer.extend(std::slice::from_ref(&held.receipt)).await?.remove(0)?;
    ensure_eq!(extended, Extended::LeaseLost, "late extension");
    next(&mut events, "the lost lease of an extension", |event| *event == lost).await?;
    let again = receive_one(&*consumer, PATIENCE).await?;
    ensure_eq!(settle_one(&*consumer, &again.receipt, Verdict::Ack).await?, Settled::Applied, "ack");
    Ok(())
}

async fn who_dies_by_himself_is_told(env: Env) -> Outcome {
    let (queue, name) = env.declared("deaths").await?;
    let mut events = queue.events();
    let consumer = queue.subscribe(&expiring(&env, &name).max_attempts(std::num::NonZeroU32::MIN)).await?;
    let id = publish_one(&queue, &name, Message::new("once only")).await?;
    receive_one(&*consumer, PATIENCE).await?;
    let nothing = consumer.receive(1, super::hand::brief(&env) + PATIENCE / 2).await?;
    ensure!(nothing.is_empty(), "handed out again after its last attempt: {nothing:?}");
    let death = Event::DeadLetter { queue: name.clone(), id, reason: DeadReason::MaxAttempts };
    next(&mut events, "the death", |event| *event == death).await?;
    env.garbage(&name, Garbage::FutureVersion { body: "unreadable".into() }).await?;
    let nothing = consumer.receive(1, env.t(3.0)).await?;
    ensure!(nothing.is_empty(), "garbage was handed out: {nothing:?}");
    let set_aside = |event: &Event| matches!(event, Event::SetAside { queue, .. } if *queue == name);
    next(&mut events, "what was set aside", set_aside).await?;
    Ok(())
}

async fn a_namespace_is_told_its_own(env: Env) -> Outcome {
    let (queue, name) = env.declared("shared-name").await?;
    let child = queue.namespace(&format!("{}-c", env.namespace().name()))?;
    child.declare(&name.clone().into()).await?;
    let (mut parents, mut childs) = (queue.events(), child.events());
    let consumer = child.subscribe(&expiring(&env, &name).max_attempts(std::num::NonZeroU32::MIN)).await?;
    publish_one(&child, &name, Message::new("the child's")).await?;
    let held = receive_one(&*consumer, PATIENCE).await?;
    until(lease_over(tokio::time::Instant::now(), super::hand::brief(&env))).await;
    ensure_eq!(settle_one(&*consumer, &held.receipt, Verdict::Ack).await?, Settled::LeaseLost, "late ack");
    next(&mut childs, "the lost lease", |event| event.name() == "lease_lost").await?;
    drop(consumer);
    child.close().await?;
    let end = timeout(PATIENCE, async { while childs.next().await.is_some() {} }).await;
    ensure!(end.is_ok(), "the events of a closed handle did not end");
    queue.close().await?;
    loop {
        match timeout(PATIENCE, parents.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(event)) => {
                ensure!(event.name() != "lease_lost", "another namespace's event was told: {event:?}");
            }
            Err(_) => return Err(Fail::new("the events of a closed parent did not end")),
        }
    }
}

async fn a_lost_connection_is_told(env: Env) -> Outcome {
    let linked = env.link().await?;
    let name = env.queue_name("cut");
    linked.queue.declare(&name.clone().into()).await?;
    publish_one(&linked.queue, &name, Message::new("before")).await?;
    let mut events = linked.queue.events();
    linked.link.cut();
    publish_after_fault(&env, &linked.queue, &name, "after").await?;
    next(&mut events, "the lost connection", |event| event.name() == "connection_lost").await?;
    next(&mut events, "the restored connection", |event| event.name() == "connection_restored").await?;
    Ok(())
}

pub(super) const CASES: &[Case] = &[
    case!("C-EVT-01", "a lost lease is told", ["S-EVT-1"], Both, [], a_lost_lease_is_told),
    case!(
        "C-EVT-02",
        "a death that no verdict asked for, and what was set aside, is told",
        ["S-EVT-1"],
        Both,
        [],
        who_dies_by_himself_is_told
    ),
    case!(
        "C-EVT-03",
        "a namespace is told its own events, until its handle is closed",
        ["S-EVT-1", "S-EVT-2"],
        Both,
        [],
        a_namespace_is_told_its_own
    ),
    case!(
        "C-EVT-04",
        "a lost and a restored connection is told",
        ["S-EVT-1"],
        Both,
        [Link],
        a_lost_connection_is_told
    ),
];
