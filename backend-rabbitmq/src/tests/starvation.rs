//! A client library that never answers, behind each call that we make: each is bounded, named by health while it is not answered, and
//! everything works again once it is.

use std::sync::Arc;
use std::time::Duration;

use polyqueue::ConnectOptions;
use polyqueue_conformance::broker::{Broker as _, RabbitBroker};
use tokio::task::JoinSet;

use super::traffic::Traffic;
use crate::queue::RabbitQueue;

/// Red is promised within 2 s of a look a second; a busy machine is given twice that.
const RED_WITHIN: Duration = Duration::from_secs(4);
const WORKS_WITHIN: Duration = Duration::from_secs(10);

/// A receive that waits beside ready messages.
const RECEIVE: &str = "a receive on";

/// The calls, by the names that errors and health give them, and what health says while one of them has no answer.
const CALLS: &[(&str, &str)] = &[
    ("publish", "publish: no answer"),
    ("a consumer's get", RECEIVE),
    ("a consumer's begin", RECEIVE),
    ("a consumer's end", RECEIVE),
    ("a consumer's ack", "a consumer's ack: no answer"),
    ("opening a channel", "no answer"),
    ("declare", "declare: no answer"),
    ("count", "count: no answer"),
    ("find an exchange", "find an exchange: no answer"),
    ("prefetch", "prefetch: no answer"),
    ("consume", "consume: no answer"),
    ("close a channel", "close a channel: no answer"),
];

async fn starved(url: String, (call, says): (&'static str, &'static str)) -> Result<(), String> {
    let namespace = format!("starved-{}", call.replace([' ', '\''], "-"));
    let options = ConnectOptions::new(url).namespace(namespace).deadline(Duration::from_secs(5));
    let queue = RabbitQueue::connect(options).await.unwrap();
    let starved = queue.starved();
    let traffic = Traffic::begin(Arc::new(queue)).await;
    starved.starve(call);
    let red = traffic.first_red(RED_WITHIN).await;
    // Longer than the deadline: what was asked has ended by then, and is asked again.
    tokio::time::sleep(Duration::from_secs(7)).await;
    starved.feed();
    let Some((detail, _)) = &red else { return Err(format!("{call}: health stayed good")) };
    // Whichever is seen first of a consumer: its receive, or what it asks.
    if !detail.contains(says) && !detail.contains(call) {
        return Err(format!("{call}: health does not name it: {detail}"));
    }
    if !traffic.flows(WORKS_WITHIN).await {
        return Err(format!("{call}: it does not work again: {:?}", traffic.counts()));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_that_is_not_answered_is_named_and_works_again() {
    let broker = RabbitBroker::start().await.unwrap();
    let mut rows = JoinSet::new();
    for row in CALLS {
        rows.spawn(starved(broker.url(), *row));
    }
    let failed: Vec<String> = rows.join_all().await.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The control of the test before: what nobody starves is never red.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_is_never_red() {
    let broker = RabbitBroker::start().await.unwrap();
    let options = ConnectOptions::new(broker.url()).namespace("fed");
    let traffic = Traffic::begin(Arc::new(RabbitQueue::connect(options).await.unwrap())).await;
    assert_eq!(traffic.first_red(RED_WITHIN).await, None);
}
