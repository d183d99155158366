//! Inboxes: replies find them over reconnections, and nothing of them stays.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{Destination, Error, Inbox, Message, Priority, ReplyAddress, Requester};
use polyqueue_conformance::broker::Broker;
use support::Bench;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

async fn channels(bench: &Bench) -> Vec<String> {
    bench.command(&["PUBSUB", "CHANNELS", "polyqueue:r:*"]).await
}

#[tokio::test]
async fn a_reply_comes_as_it_was_sent() {
    let bench = Bench::start().await;
    let responder = bench.another(10 * SECOND).await;
    let inbox = bench.queue.inbox().await.unwrap();
    assert!(inbox.receive(Duration::ZERO).await.unwrap().is_empty());
    let reply = Message::new(vec![0, 255, 10, 13])
        .with_kind("answer")
        .with_priority(Priority::HIGHEST)
        .with_correlation_id("c")
        .with_header("é", "😀");
    let large = Message::new(vec![7; 3_000_000]);
    let to = Destination::Reply(inbox.address().clone());
    let answers = responder.publish(&to, vec![reply.clone(), large.clone()]).await.unwrap();
    assert!(answers.iter().all(Result::is_ok));
    let mut came = Vec::new();
    while came.len() < 2 {
        came.extend(inbox.receive(5 * SECOND).await.unwrap());
    }
    assert_eq!(came[0].id(), reply.id());
    assert_eq!((came[0].payload(), came[0].kind()), (reply.payload(), "answer"));
    assert_eq!((came[0].correlation_id(), came[0].headers()), (Some("c"), reply.headers()));
    assert_eq!((came[0].priority(), came[1].payload()), (reply.priority(), large.payload()));
    assert_eq!(bench.command::<Vec<String>>(&["KEYS", "*:r:*"]).await.len(), 0);

    drop(inbox);
    let start = Instant::now();
    while !channels(&bench).await.is_empty() {
        assert!(start.elapsed() < 5 * SECOND);
    }
    let error = responder.publish(&to, vec![reply]).await.unwrap_err();
    assert!(matches!(&error, Error::NotFound(Destination::Reply(_))), "{error}");
}

#[tokio::test]
async fn an_address_that_is_no_inbox_of_ours_reaches_nobody() {
    let bench = Bench::start().await;
    let wake: Vec<String> = bench.command(&["PUBSUB", "CHANNELS", "*"]).await;
    for address in ["anything", "polyqueue:r:", "other:r:x", &wake[0]] {
        let to = Destination::Reply(ReplyAddress::new(address).unwrap());
        let error = bench.queue.publish(&to, vec![Message::new("x")]).await.unwrap_err();
        assert!(matches!(&error, Error::NotFound(_)), "{address}: {error}");
    }
    let inbox = bench.queue.inbox().await.unwrap();
    bench.command::<u64>(&["PUBLISH", inbox.address().as_str(), "garbage"]).await;
    bench.command::<u64>(&["PUBLISH", inbox.address().as_str(), "\u{12}"]).await;
    let to = Destination::Reply(inbox.address().clone());
    bench.queue.publish(&to, vec![Message::new("good")]).await.unwrap();
    assert_eq!(inbox.receive(5 * SECOND).await.unwrap()[0].payload(), "good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbox_keeps_its_address_over_a_restart_and_ends_with_its_handle() {
    let bench = Bench::start().await;
    let responder = bench.another(10 * SECOND).await;
    let inbox: Arc<dyn Inbox> = bench.queue.inbox().await.unwrap().into();
    let to = Destination::Reply(inbox.address().clone());
    let reader = inbox.clone();
    let waits = tokio::spawn(async move { reader.receive(60 * SECOND).await });
    bench.broker.restart_gracefully().await.unwrap();
    let start = Instant::now();
    while responder.publish(&to, vec![Message::new("after")]).await.is_err() {
        assert!(start.elapsed() < 10 * SECOND);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(waits.await.unwrap().unwrap()[0].payload(), "after");

    let reader = inbox.clone();
    let waits = tokio::spawn(async move { reader.receive(60 * SECOND).await });
    tokio::task::yield_now().await;
    let closing = Instant::now();
    bench.queue.close().await.unwrap();
    assert!(matches!(waits.await.unwrap(), Err(Error::Closed)));
    assert!(matches!(inbox.receive(SECOND).await, Err(Error::Closed)));
    assert!(closing.elapsed() < 5 * SECOND);
}

#[tokio::test]
async fn an_inbox_that_nobody_reads_is_bounded() {
    let bench = Bench::start().await;
    let (inbox, behind) = (bench.queue.inbox().await.unwrap(), bench.queue.inbox().await.unwrap());
    let to = Destination::Reply(inbox.address().clone());
    for _ in 0..103 {
        let batch = (0..100).map(|n| Message::new(n.to_string())).collect();
        assert!(bench.queue.publish(&to, batch).await.unwrap().iter().all(Result::is_ok));
    }
    // A publish is answered when the server has a reply, which is on its way to the inbox then. What comes to another inbox of
    // the same handle comes behind it.
    let last = Destination::Reply(behind.address().clone());
    bench.queue.publish(&last, vec![Message::new("last")]).await.unwrap();
    assert_eq!(behind.receive(30 * SECOND).await.unwrap().len(), 1);
    assert_eq!(inbox.receive(SECOND).await.unwrap().len(), 10_000);
    bench.queue.publish(&to, vec![Message::new("next")]).await.unwrap();
    assert_eq!(inbox.receive(5 * SECOND).await.unwrap()[0].payload(), "next");
}

#[tokio::test]
async fn idle_requesters_send_nothing() {
    let bench = Bench::start().await;
    let mut requesters = Vec::new();
    for _ in 0..100 {
        requesters.push(Requester::open(bench.queue.clone()).await.unwrap());
    }
    assert_eq!(channels(&bench).await.len(), 100);
    let processed = || async {
        let info: String = bench.command(&["INFO", "stats"]).await;
        let count = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        count.unwrap().trim().parse::<u64>().unwrap()
    };
    let before = processed().await;
    tokio::time::sleep(3 * SECOND).await;
    // What the questions themselves cost: a few commands for each connection.
    assert!(processed().await - before < 20);
    drop(requesters);
    let start = Instant::now();
    while !channels(&bench).await.is_empty() {
        assert!(start.elapsed() < 10 * SECOND);
    }
}
