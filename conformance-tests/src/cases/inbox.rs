//! RPC: an inbox takes in what is sent to its address, as it was sent, and leaves nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use polyqueue::{Certainty, Destination, Error, Inbox, Message, MessageId, Queue};
use tokio::time::{Instant, sleep};

use super::arrival::timed;
use super::dead_letter::same_content;
use super::hand::{PATIENCE, level, numbered, once_each};
use super::route::invalid;
use crate::verbs::{publish_all, publish_any, publish_one};
use crate::{Case, Env, Fail, Outcome, case, ensure, ensure_eq};

/// Receives until `n` replies came.
async fn collect(inbox: &dyn Inbox, n: usize) -> Result<Vec<Message>, Fail> {
    let mut all = Vec::new();
    while all.len() < n {
        let came = inbox.receive(PATIENCE).await?;
        ensure!(!came.is_empty(), "{} of {n} replies came", all.len());
        all.extend(came);
    }
    Ok(all)
}

async fn a_reply_arrives_as_it_was_sent(env: Env) -> Outcome {
    let (asker, responder) = (env.open().await?, env.open().await?);
    let (inbox, other) = (asker.inbox().await?, asker.inbox().await?);
    ensure!(inbox.address() != other.address(), "two inboxes with one address");
    let sent = Message::new((0..=255).collect::<Vec<u8>>())
        .with_kind("answer")
        .with_schema_version("2.0.0")
        .with_priority(level(9))
        .with_correlation_id("question 12")
        .with_reply_to(other.address().clone())
        .with_header("tenant", "ü")
        .with_header("empty", "");
    publish_one(&responder, inbox.address(), sent.clone()).await?;
    let came = collect(&*inbox, 1).await?;
    same_content(&came[0], &sent)?;
    ensure_eq!(came[0].reply_to(), sent.reply_to(), "its own reply address");
    let (nothing, span) = timed(other.receive(env.t(2.0))).await;
    ensure_eq!(nothing?.len(), 0, "what came to another inbox as well");
    ensure!(span.took() >= env.t(2.0), "an empty receive ended after {:?}", span.took());
    let again = inbox.receive(Duration::ZERO).await?;
    ensure!(again.is_empty(), "more came than was sent: {again:?}");
    let batch = publish_all(&responder, inbox.address(), numbered(50)).await?;
    let came: Vec<MessageId> = collect(&*inbox, 50).await?.iter().map(|it| it.id().clone()).collect();
    ensure_eq!(came, batch, "a batch, in order");
    ensure_eq!(inbox.address(), inbox.address(), "its address");
    Ok(())
}

async fn what_a_reply_cannot_have_is_refused(env: Env) -> Outcome {
    let queue = env.open().await?;
    let inbox = queue.inbox().await?;
    let second = env.t(1.0);
    for (field, message) in [
        ("delay", Message::new("").with_delay(second)),
        ("ttl", Message::new("").with_ttl(second)),
        ("dedup key", Message::new("").with_dedup_key("k")),
    ] {
        invalid(publish_any(&queue, inbox.address(), message).await?, field)?;
    }
    let day = Duration::from_secs(24 * 60 * 60);
    invalid(inbox.receive(day + Duration::from_millis(1)).await, "wait")?;
    let last = publish_one(&queue, inbox.address(), Message::new("good")).await?;
    ensure_eq!(collect(&*inbox, 1).await?[0].id(), &last, "all that came");
    Ok(())
}

/// What waits for a reply is woken by it, from any client.
async fn a_waiting_receive_is_woken(env: Env) -> Outcome {
    let (asker, responder) = (env.open().await?, env.open().await?);
    let inbox = asker.inbox().await?;
    // The first reply may have to make connections; the second is judged.
    publish_one(&responder, inbox.address(), Message::new("first")).await?;
    collect(&*inbox, 1).await?;
    let address = inbox.address().clone();
    let waiting = tokio::spawn(async move {
        let (came, span) = timed(inbox.receive(PATIENCE)).await;
        (came.map(|came| came.len()), span, inbox)
    });
    sleep(env.t(2.0)).await;
    let (id, published) = timed(publish_one(&responder, &address, Message::new("second"))).await;
    id?;
    let (came, span, _inbox) = waiting.await.map_err(|panic| panic.to_string())?;
    ensure_eq!(came?, 1, "replies that came");
    env.in_time("the reply", published.ret, span.ret)
}

/// Where a backend can know that nobody reads there any more it says so; none is stored, and the handle works on.
async fn a_reply_to_nobody_is_no_reply(env: Env) -> Outcome {
    let (asker, responder) = (env.open().await?, env.open().await?);
    let gone = asker.inbox().await?;
    let address = gone.address().clone();
    publish_one(&responder, &address, Message::new("there")).await?;
    collect(&*gone, 1).await?;
    drop(gone);
    let end = Instant::now() + PATIENCE;
    let to = Destination::from(&address);
    loop {
        match publish_any(&responder, to.clone(), Message::new("to nobody")).await? {
            Err(Error::NotFound(Destination::Reply(named))) => {
                ensure_eq!(named, address, "the inbox that is named");
                break;
            }
            // A broker that swallows such a reply answers Ok as long as it likes.
            Ok(_) if Instant::now() > end || !env.virtual_time() => break,
            Ok(_) => sleep(env.t(0.1)).await,
            Err(other) => return Err(format!("a reply to nobody answered {other:?}").into()),
        }
    }
    let inbox = asker.inbox().await?;
    ensure!(inbox.address() != &address, "an address was given twice");
    let id = publish_one(&responder, inbox.address(), Message::new("to somebody")).await?;
    let came = collect(&*inbox, 1).await?;
    ensure_eq!((came.len(), came[0].id()), (1, &id), "all that came to a later inbox");
    Ok(())
}

async fn many_replies_at_once_come_each_once(env: Env) -> Outcome {
    let asker = env.open().await?;
    let inbox = asker.inbox().await?;
    let to = Destination::from(inbox.address());
    let sending = try_join_all((0..8).map(|_| fifty(&env, &to)));
    let (sent, came) = tokio::join!(sending, collect(&*inbox, 400));
    let sent: BTreeSet<MessageId> = sent?.concat().into_iter().collect();
    let came = once_each(came?.iter().map(|reply| reply.id().clone()))?;
    ensure!(came == sent, "{} of {} came", came.len(), sent.len());
    Ok(())
}

async fn fifty(env: &Env, to: &Destination) -> Result<Vec<MessageId>, Fail> {
    let queue: Arc<dyn Queue> = env.open().await?;
    let mut sent = Vec::new();
    for batch in 0..10 {
        let messages = (0..5).map(|n| Message::new(format!("{batch}/{n}"))).collect();
        sent.extend(publish_all(&queue, to.clone(), messages).await?);
    }
    Ok(sent)
}

/// The inbox ends with its handle: what waits is woken, and what is sent there later finds nobody.
async fn close_ends_an_inbox(env: Env) -> Outcome {
    let (asker, responder) = (env.open().await?, env.open().await?);
    let inbox: Arc<dyn Inbox> = asker.inbox().await?.into();
    let waiting = {
        let inbox = inbox.clone();
        tokio::spawn(async move { timed(inbox.receive(PATIENCE)).await })
    };
    sleep(env.t(1.0)).await;
    let closed = timed(asker.close()).await;
    closed.0?;
    let (answer, span) = waiting.await.map_err(|panic| panic.to_string())?;
    ensure!(matches!(&answer, Err(Error::Closed)), "a receive that waited answered {answer:?}");
    env.in_time("what a receive is told of a close", closed.1.ret, span.ret)?;
    let after = publish_any(&responder, inbox.address(), Message::new("late")).await?;
    let certain = after.as_ref().map_or_else(Error::certainty, |_| Certainty::Definite);
    ensure_eq!(certain, Certainty::Definite, "whether it is certain that nobody gets it: {after:?}");
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case!(
        "C-RPC-08",
        "a reply arrives at its inbox as it was sent, in order, and nowhere else",
        ["S-RPC-1", "S-DEL-5"],
        Safety,
        [],
        a_reply_arrives_as_it_was_sent
    ),
    case!(
        "C-RPC-09",
        "a reply with a delay, a time to live or a dedup key is refused",
        ["S-VAL-4", "S-RPC-1"],
        Safety,
        [],
        what_a_reply_cannot_have_is_refused
    ),
    case!(
        "C-RPC-10",
        "a reply wakes who waits for it",
        ["S-RPC-1"],
        Liveness,
        [],
        a_waiting_receive_is_woken
    ),
    case!(
        "C-RPC-11",
        "a reply to an inbox that is gone is stored for nobody",
        ["S-RPC-3", "S-RPC-2"],
        Safety,
        [],
        a_reply_to_nobody_is_no_reply
    ),
    case!(
        "C-RPC-12",
        "four hundred replies of eight clients come each once",
        ["S-RPC-1"],
        Safety,
        [],
        many_replies_at_once_come_each_once
    ),
    case!(
        "C-RPC-13",
        "closing its handle ends an inbox",
        ["S-LIF-1", "S-RPC-3"],
        Both,
        [],
        close_ends_an_inbox
    ),
];
