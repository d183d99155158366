//! Events: what happens to a handle without anybody asking is told, to it and to nobody else.

use polyqueue::{Consumer, DeadReason, Event, Events, Extended, Message, Settled, Verdict};
use tokio::time::timeout;

use super::arrival::patience;
use super::fault::{next_after_fault, publish_after_fault};
use super::hand::{PATIENCE, expiring, lease_over, until};
use super::ledger::passing;
use crate::verbs::{eventually, publish_any, publish_one, receive_one, settle_one};
use crate::{Case, Env, Fail, Fault, Garbage, Outcome, case, ensure, ensure_eq};

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

/// Of two queues, as each is used again.
async fn a_loss_of_everything_is_told(env: Env) -> Outcome {
    let (queue, read) = env.declared("read").await?;
    let written = env.queue_name("written");
    queue.declare(&written.clone().into()).await?;
    let consumer = queue.subscribe(&super::hand::steady(&env, &read)).await?;
    let mut events = queue.events();
    env.faults().await?.apply(Fault::Wipe).await?;
    for name in [&written, &read] {
        let published = || async {
            match publish_any(&queue, name, Message::new("after")).await? {
                Ok(_) => Ok(Some(())),
                Err(error) => passing(&error).map(|()| None),
            }
        };
        eventually(&env, patience(&env), "a publish after everything was lost", published).await?;
    }
    next_after_fault(&env, &*consumer).await?;
    let mut told = Vec::new();
    while let Ok(Some(event)) = timeout(env.t(2.0), events.next()).await {
        told.extend(matches!(event, Event::Wiped { .. } | Event::Redeclared { .. }).then_some(event));
    }
    ensure!(matches!(told.first(), Some(Event::Wiped { .. })), "the loss was not told first: {told:?}");
    ensure_eq!(told.len(), 3, "one loss, and two queues that were declared again: {told:?}");
    for queue in [read, written] {
        let again = Event::Redeclared { queue };
        ensure!(told.contains(&again), "{again:?} was not told: {told:?}");
    }
    Ok(())
}

/// The control of the case before.
async fn a_deletion_is_no_loss(env: Env) -> Outcome {
    let (queue, name) = env.declared("deleted").await?;
    let consumer = queue.subscribe(&super::hand::steady(&env, &name)).await?;
    publish_one(&queue, &name, Message::new("before")).await?;
    let mut events = queue.events();
    queue.delete(&name).await?;
    let published = publish_one(&queue, &name, Message::new("after")).await;
    ensure!(published.is_err(), "a deleted queue takes messages: {published:?}");
    let received = consumer.receive(1, env.t(1.0)).await;
    ensure!(!matches!(&received, Ok(came) if !came.is_empty()), "a deleted queue hands out: {received:?}");
    while let Ok(Some(event)) = timeout(env.t(1.0), events.next()).await {
        ensure!(!matches!(event, Event::Wiped { .. } | Event::Redeclared { .. }), "no loss: {event:?}");
    }
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
    case!(
        "C-EVT-05",
        "a broker that has lost everything is told once, and each queue that is declared again",
        ["S-EVT-1", "S-FLT-3"],
        Both,
        [Fault(Wipe)],
        a_loss_of_everything_is_told
    ),
    case!(
        "C-EVT-06",
        "a queue that is deleted is not told as lost",
        ["S-EVT-1"],
        Both,
        [],
        a_deletion_is_no_loss
    ),
];
