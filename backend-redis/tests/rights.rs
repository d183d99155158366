//! A user who may not do all that is needed is told so when it connects, and one with the rights that the documentation lists can do
//! everything.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    ConnectOptions, DeadFilter, Dedup, Error, Message, Page, Purge, Queue, QueueSpec, Result, RoutingKey,
    Subscription, Verdict,
};
use polyqueue_conformance::broker::Broker;
use polyqueue_redis::PROVIDER;
use support::Bench;

const SECOND: Duration = Duration::from_secs(1);

/// The rights that the crate's documentation lists.
fn documented() -> Vec<String> {
    let text = include_str!("../src/lib.rs");
    let listed = text.split("and the commands `").nth(1).unwrap().split('`').next().unwrap();
    listed.replace("//!", " ").split_whitespace().map(str::to_owned).collect()
}

/// A handle of a user with these rights.
async fn as_user(bench: &Bench, rights: &[String]) -> Result<Arc<dyn Queue>> {
    let base = ["ACL", "SETUSER", "app", "reset", "on", ">secret", "~polyqueue:*", "&polyqueue:*"];
    let words: Vec<&str> = base.into_iter().chain(rights.iter().map(String::as_str)).collect();
    bench.command::<()>(&words).await;
    let url = bench.broker.url().replace("redis://", "redis://app:secret@");
    PROVIDER.connect(ConnectOptions::new(url)).await
}

#[tokio::test]
async fn the_rights_that_are_documented_are_enough() {
    let bench = Bench::start().await;
    let queue = as_user(&bench, &documented()).await.unwrap();
    let spec =
        QueueSpec::new("all".parse().unwrap()).bind("a.*".parse().unwrap()).dedup(Dedup::window(SECOND));
    queue.declare(&spec).await.unwrap();
    let topic = RoutingKey::new("a.b").unwrap();
    let big = Message::new(vec![0; 2 << 20]);
    for message in [
        Message::new("1"),
        Message::new("2").with_dedup_key("k"),
        Message::new("3").with_delay(SECOND / 5),
        big,
    ] {
        queue.publish(&topic.clone().into(), vec![message]).await.unwrap().remove(0).unwrap();
    }
    let consumer = queue.subscribe(&Subscription::new(spec.name.clone())).await.unwrap();
    let mut held = Vec::new();
    while held.len() < 4 {
        held.extend(consumer.receive(4, 5 * SECOND).await.unwrap());
    }
    consumer.extend(&[held[0].receipt.clone()]).await.unwrap();
    let verdicts = [Verdict::Ack, Verdict::reject("no"), Verdict::retry(SECOND, "again"), Verdict::Ack];
    let verdicts: Vec<_> = held.iter().map(|held| held.receipt.clone()).zip(verdicts).collect();
    consumer.settle(&verdicts).await.unwrap();
    let dead = queue.dead_letters(&spec.name, &DeadFilter::all(), Page::first(9)).await.unwrap().dead_letters;
    assert_eq!(queue.redrive(&spec.name, &[dead[0].id.clone()]).await.unwrap(), [true]);
    assert!(queue.health().await.healthy);
    queue.purge(&spec.name, Purge::Waiting).await.unwrap();
    queue.stats(&spec.name).await.unwrap();
    queue.inbox().await.unwrap();
    queue.delete(&spec.name).await.unwrap();
}

#[tokio::test]
async fn what_is_missing_is_named_when_a_handle_is_opened() {
    let bench = Bench::start().await;
    for (taken, says) in [("-@blocking", "XREADGROUP"), ("-zadd", "ZADD"), ("-info", "info")] {
        let rights: Vec<String> = documented().into_iter().chain([taken.to_owned()]).collect();
        let refused = as_user(&bench, &rights).await.map(drop).unwrap_err();
        assert!(matches!(refused, Error::Denied { .. }), "{taken}: {refused}");
        assert!(refused.to_string().contains(says), "{taken}: {refused}");
        assert!(!refused.to_string().contains("secret"), "{refused}");
    }
}
