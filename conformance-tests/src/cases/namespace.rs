//! Child handles: a namespace of their own, their parent's connections and, at the latest, its end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use polyqueue::{
    DeadFilter, Destination, Error, Message, Page, Queue, QueueName, QueueSpec, Subscription, Verdict,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::hand::{PATIENCE, brief, steady};
use super::input::refused;
use super::interrupt::Victim;
use super::route::{key, pattern};
use crate::verbs::{eventually, publish_one, receive_one};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

fn named(env: &Env, tenant: &str) -> String {
    format!("{}-{tenant}", env.namespace().name())
}

/// A child with the queue declared, bound to a topic.
async fn tenant(
    env: &Env,
    parent: &dyn Queue,
    tenant: &str,
    queue: &QueueName,
) -> Result<Arc<dyn Queue>, Fail> {
    let child = parent.namespace(&named(env, tenant))?;
    child.declare(&QueueSpec::new(queue.clone()).bind(pattern("mail.#")?)).await?;
    Ok(child)
}

/// Sends one message and takes it in again.
async fn round_trip(env: &Env, queue: &Arc<dyn Queue>, name: &QueueName, text: &str) -> Outcome {
    round_trip_by(&steady(env, name), queue, text).await
}

async fn round_trip_by(subscription: &Subscription, queue: &Arc<dyn Queue>, text: &str) -> Outcome {
    let consumer = queue.subscribe(subscription).await?;
    publish_one(queue, &subscription.queue, Message::new(text.to_owned())).await?;
    let came = receive_one(&*consumer, PATIENCE).await?;
    ensure_eq!(came.message.payload(), text, "what came");
    consumer.settle(&[(came.receipt, Verdict::Ack)]).await?.remove(0)?;
    Ok(consumer.close().await?)
}

async fn a_child_sees_its_own_only(env: Env) -> Outcome {
    let (parent, name) = env.declared("mail").await?;
    let (red, blue) =
        (tenant(&env, &*parent, "red", &name).await?, tenant(&env, &*parent, "blue", &name).await?);
    publish_one(&red, &name, Message::new("for red")).await?;
    red.publish(&Destination::from(key("mail.new")?), vec![Message::new("to red's topic")])
        .await?
        .remove(0)?;
    for (queue, ready) in [(&parent, 0), (&red, 2), (&blue, 0)] {
        ensure_eq!(queue.stats(&name).await?.ready, ready, "ready messages");
    }
    let connected = env.open_with(|options| options.namespace(named(&env, "red"))).await?;
    ensure_eq!(connected.stats(&name).await?.ready, 2, "seen by who connected in the namespace");
    let back = red.namespace(env.namespace().name())?;
    ensure_eq!(back.stats(&name).await?.ready, 0, "seen from the parent's namespace, by a child's child");
    let inbox = red.inbox().await?;
    let reply = Destination::from(inbox.address());
    red.publish(&reply, vec![Message::new("reply")]).await?.remove(0)?;
    ensure_eq!(inbox.receive(PATIENCE).await?.len(), 1, "replies");
    blue.delete(&name).await?;
    ensure_eq!((parent.queues().await?.len(), red.queues().await?.len()), (1, 1), "queues of the others");
    connected.close().await?;
    round_trip(&env, &parent, &name, "for the parent").await
}

/// Uses each part of a handle.
async fn use_all(env: &Env, queue: &Arc<dyn Queue>, name: &QueueName) -> Outcome {
    queue.declare(&QueueSpec::new(name.clone())).await?;
    round_trip(env, queue, name, "here").await?;
    queue.stats(name).await?;
    let came = queue.inbox().await?.receive(Duration::from_millis(1)).await?;
    ensure!(came.is_empty(), "came though nobody replied: {came:?}");
    Ok(())
}

async fn children_share_connections(env: Env) -> Outcome {
    let (victim, name) = (Victim::open(&env).await?, env.queue_name("shared"));
    use_all(&env, &victim.queue, &name).await?;
    let before = victim.connections();
    for tenant in ["a", "b", "c", "d"] {
        let child = victim.queue.namespace(&named(&env, tenant))?;
        use_all(&env, &child, &name).await?;
        ensure_eq!(victim.connections(), before, "open connections with child {tenant}");
    }
    Ok(())
}

/// Every half of the contract says so.
async fn is_closed(queue: &Arc<dyn Queue>, name: &QueueName) -> Outcome {
    let published = queue.publish(&name.into(), vec![Message::new("late")]).await;
    ensure!(matches!(published, Err(Error::Closed)), "publish on a closed handle answered {published:?}");
    let counted = queue.stats(name).await;
    ensure!(matches!(counted, Err(Error::Closed)), "stats on a closed handle answered {counted:?}");
    let child = queue.namespace("child");
    ensure!(matches!(child, Err(Error::Closed)), "namespace on a closed handle answered {child:?}");
    Ok(())
}

async fn a_parent_closes_its_children(env: Env) -> Outcome {
    let (parent, name) = env.declared("parent").await?;
    let child = tenant(&env, &*parent, "child", &name).await?;
    let grandchild = tenant(&env, &*child, "grand", &name).await?;
    let (consumer, inbox) = (grandchild.subscribe(&steady(&env, &name)).await?, child.inbox().await?);
    let closing = async {
        tokio::time::sleep(env.t(0.1)).await;
        parent.close().await
    };
    let (received, replies, closed) =
        tokio::join!(consumer.receive(1, 4 * PATIENCE), inbox.receive(4 * PATIENCE), closing);
    closed?;
    ensure!(matches!(received, Err(Error::Closed)), "a blocked receive ended with {received:?}");
    ensure!(matches!(replies, Err(Error::Closed)), "a blocked inbox ended with {replies:?}");
    for queue in [&parent, &child, &grandchild] {
        is_closed(queue, &name).await?;
        queue.close().await?;
    }
    Ok(())
}

async fn a_child_closes_itself_only(env: Env) -> Outcome {
    let (parent, name) = env.declared("parent").await?;
    let (child, sibling) =
        (tenant(&env, &*parent, "child", &name).await?, tenant(&env, &*parent, "other", &name).await?);
    // One more in the same namespace, over the same connections.
    let twin = tenant(&env, &*parent, "child", &name).await?;
    let (consumer, inbox) = (child.subscribe(&steady(&env, &name)).await?, child.inbox().await?);
    let others = [&parent, &sibling, &twin];
    let inboxes = try_join_all(others.map(|queue| queue.inbox())).await?;
    child.close().await?;
    is_closed(&child, &name).await?;
    let received = consumer.receive(1, PATIENCE).await;
    ensure!(matches!(received, Err(Error::Closed)), "a receive ended with {received:?}");
    let replies = inbox.receive(PATIENCE).await;
    ensure!(matches!(replies, Err(Error::Closed)), "an inbox ended with {replies:?}");
    for (queue, inbox) in others.into_iter().zip(&inboxes) {
        round_trip(&env, queue, &name, "still there").await?;
        queue.publish(&Destination::from(inbox.address()), vec![Message::new("reply")]).await?.remove(0)?;
        ensure_eq!(inbox.receive(PATIENCE).await?.len(), 1, "replies");
    }
    Ok(())
}

async fn a_uuid_is_a_tenant(env: Env) -> Outcome {
    let parent = env.open().await?;
    for name in ["", "Upper", "a.b", "a:b", "ä", &"x".repeat(49)] {
        refused(parent.namespace(name), "namespace", None)?;
    }
    let longest = format!("{}-{}", Uuid::new_v4(), "x".repeat(11));
    let name = QueueName::new("n".repeat(200)).map_err(Error::from)?;
    for tenant in [format!("tenant-{}", Uuid::new_v4()), longest] {
        let queue = parent.namespace(&tenant)?;
        queue.declare(&QueueSpec::new(name.clone()).bind(pattern("mail.#")?)).await?;
        round_trip(&env, &queue, &name, "one").await?;
        publish_one(&queue, &name, Message::new("late").with_delay(env.t(1.0))).await?;
        let consumer = queue.subscribe(&steady(&env, &name)).await?;
        let late = receive_one(&*consumer, PATIENCE).await?;
        consumer.settle(&[(late.receipt, Verdict::reject("no"))]).await?.remove(0)?;
        let dead = queue.dead_letters(&name, &DeadFilter::all(), Page::first(2)).await?.dead_letters;
        ensure_eq!(dead.len(), 1, "dead letters");
    }
    Ok(())
}

async fn one_of_fifty(env: &Env, parent: &dyn Queue, name: &QueueName, nth: usize) -> Outcome {
    let id = format!("t{nth}");
    let child = tenant(env, parent, &id, name).await?;
    round_trip(env, &child, name, &id).await?;
    publish_one(&child, name, Message::new(id.clone())).await?;
    ensure_eq!(child.stats(name).await?.ready, 1, "ready messages of {id}");
    Ok(child.close().await?)
}

async fn fifty_tenants_at_once(env: Env) -> Outcome {
    let (parent, name) = (env.open().await?, env.queue_name("mail"));
    try_join_all((0..50).map(|nth| one_of_fifty(&env, &*parent, &name, nth))).await?;
    let stranger = parent.namespace(&named(&env, "t50"))?.stats(&name).await;
    ensure!(matches!(stranger, Err(Error::NotFound { .. })), "one that declared nothing has {stranger:?}");
    Ok(())
}

/// By when what dropped children had must be gone. No time is promised.
const GONE: Duration = Duration::from_secs(30);

async fn dropped_children_leave_nothing(env: Env) -> Outcome {
    let (victim, name) = (Victim::open(&env).await?, env.queue_name("mail"));
    let stays = tenant(&env, &*victim.queue, "stays", &name).await?;
    // All that its connections depend on: a backend may have some for short leases.
    for queue in [&victim.queue, &stays] {
        use_all(&env, queue, &name).await?;
        round_trip_by(&fleeting(&env, &name), queue, "soon over").await?;
    }
    publish_one(&stays, &name, Message::new("held")).await?;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (tasks_before, open_before) = (tasks(), victim.connections());
    for _ in 0..10 {
        try_join_all((0..10).map(|nth| used_and_dropped(&env, &victim.queue, &name, nth))).await?;
    }
    held_and_dropped(&env, &victim.queue, &name).await?;
    ensure_eq!(victim.connections(), open_before, "open connections after 100 children");
    let ended = eventually(&env, GONE, "", async || Ok((tasks() <= tasks_before).then_some(()))).await;
    ensure!(ended.is_ok(), "{tasks_before} tasks before, {} after {GONE:?}", tasks());
    let consumer = stays.subscribe(&steady(&env, &name)).await?;
    let held = receive_one(&*consumer, GONE).await?;
    ensure_eq!(held.message.payload(), "held", "what a dropped child held");
    consumer.settle(&[(held.receipt, Verdict::Ack)]).await?.remove(0)?;
    consumer.close().await?;
    for queue in [&victim.queue, &stays] {
        round_trip(&env, queue, &name, "goes on").await?;
    }
    let start = Instant::now();
    victim.queue.close().await?;
    env.in_time("the close of a parent", start, Instant::now())?;
    is_closed(&victim.queue, &name).await?;
    is_closed(&stays, &name).await
}

/// Uses each part of a child with a child of its own, and drops them as they are.
async fn used_and_dropped(env: &Env, parent: &Arc<dyn Queue>, name: &QueueName, nth: usize) -> Outcome {
    let child = tenant(env, &**parent, &format!("t{nth}"), name).await?;
    let grandchild = tenant(env, &*child, &format!("t{nth}-child"), name).await?;
    for queue in [&child, &grandchild] {
        use_all(env, queue, name).await?;
        let consumer = queue.subscribe(&steady(env, name)).await?;
        let came = consumer.receive(1, Duration::from_millis(1)).await?;
        ensure!(came.is_empty(), "came though nothing was published: {came:?}");
    }
    Ok(())
}

/// A subscription whose leases end soon.
fn fleeting(env: &Env, name: &QueueName) -> Subscription {
    env.subscription(name).lease(brief(env))
}

/// Drops a child that has a message in hand.
async fn held_and_dropped(env: &Env, parent: &Arc<dyn Queue>, name: &QueueName) -> Outcome {
    let child = parent.namespace(&named(env, "stays"))?;
    let consumer = child.subscribe(&fleeting(env, name)).await?;
    let held = receive_one(&*consumer, PATIENCE).await?;
    ensure_eq!(held.message.payload(), "held", "what came");
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-NSP-01",
        "a child sees the messages of its own namespace only",
        ["S-NSP-1"],
        Safety,
        [],
        a_child_sees_its_own_only
    ),
    case!(
        "C-NSP-02",
        "children open no connection of their own",
        ["S-NSP-2"],
        Safety,
        [],
        children_share_connections
    ),
    case!(
        "C-NSP-03",
        "the close of a parent closes its children and theirs",
        ["S-NSP-3", "S-LIF-1"],
        Both,
        [],
        a_parent_closes_its_children
    ),
    case!(
        "C-NSP-04",
        "the close of a child leaves its parent and its siblings",
        ["S-NSP-3"],
        Both,
        [],
        a_child_closes_itself_only
    ),
    case!(
        "C-NSP-05",
        "a UUID with a prefix is a tenant, and other names are refused",
        ["S-NSP-4", "S-VAL-4"],
        Both,
        [],
        a_uuid_is_a_tenant
    ),
    case!(
        "C-NSP-06",
        "fifty tenants at once on one handle",
        ["S-NSP-1", "S-NSP-2"],
        Both,
        [],
        fifty_tenants_at_once
    ),
    case!(
        "C-NSP-07",
        "children dropped without close leave no task and no lease, and their parent goes on",
        ["S-NSP-5", "S-NSP-2"],
        Both,
        [],
        dropped_children_leave_nothing
    ),
];
