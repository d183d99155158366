//! A client library that never answers, behind each call that we make: each is bounded, named by health while it is not answered, and
//! everything works again once it is.

use std::fs::{read_dir, read_to_string};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use polyqueue::ConnectOptions;
use polyqueue_conformance::broker::{Broker as _, RedisBroker};
use tokio::task::JoinSet;

use super::traffic::Traffic;
use crate::queue::open;

/// Red is promised within 2 s of a look a second; a busy machine is given twice that.
const RED_WITHIN: Duration = Duration::from_secs(4);
const WORKS_WITHIN: Duration = Duration::from_secs(10);

/// The calls, by the names that errors and health give them, and what health says while one of them has no answer.
const CALLS: &[(&str, &str)] = &[
    ("publish", "publish: no answer"),
    ("receive", "a receive on"),
    ("settle", "settle: no answer"),
    ("extend", "extend: no answer"),
    ("declare", "declare: no answer"),
    ("unbind", "unbind: no answer"),
    ("delete", "delete: no answer"),
    ("queues", "queues: no answer"),
    ("subscribe", "subscribe: no answer"),
    ("stats", "stats: no answer"),
    ("purge", "purge: no answer"),
    ("reschedule", "reschedule: no answer"),
    ("dead letters", "dead letters: no answer"),
    ("redrive", "redrive: no answer"),
    ("discard", "discard: no answer"),
    ("opening an inbox", "opening an inbox: no answer"),
    ("closing an inbox", "closing an inbox: no answer"),
    ("fetching a reply", "fetching a reply: no answer"),
    ("closing", "closing: no answer"),
    ("health", "health timed out"),
];

/// Given up before health would name it: everything goes on meanwhile.
const GIVEN_UP_SOON: &[&str] = &["leaving a queue", "looking after queues"];

/// Those that come only after a fault. They go the same way through `Node::exchange`, which bounds and names every call.
const AFTER_A_FAULT: &[&str] = &[
    "connect",
    "declaring again",
    "listening",
    "hearing of a message",
    "passing on a wake-up",
    "giving a message back",
    "giving messages back",
    "looking for leases",
];

async fn starved(url: String, (call, says): (&'static str, &'static str)) -> Result<(), String> {
    let namespace = format!("starved-{}", call.replace([' ', '\''], "-"));
    let options = ConnectOptions::new(url).namespace(namespace).deadline(Duration::from_secs(5));
    let queue = open(options).await.unwrap();
    let starved = queue.starved();
    let traffic = Traffic::begin(Arc::new(queue)).await;
    starved.starve(call);
    let red = traffic.first_red(RED_WITHIN).await;
    // Longer than the deadline: what was asked has ended by then, and is asked again.
    tokio::time::sleep(Duration::from_secs(7)).await;
    starved.feed();
    let Some((detail, _)) = &red else { return Err(format!("{call}: health stayed good")) };
    if !detail.contains(says) {
        return Err(format!("{call}: health does not name it: {detail}"));
    }
    if !traffic.flows(WORKS_WITHIN).await {
        return Err(format!("{call}: it does not work again: {:?}", traffic.counts()));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_that_is_not_answered_is_named_and_works_again() {
    let broker = RedisBroker::start().await.unwrap();
    let mut rows = JoinSet::new();
    for row in CALLS {
        rows.spawn(starved(broker.url(), *row));
    }
    let failed: Vec<String> = rows.join_all().await.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_on_beside_a_call_that_is_given_up_soon() {
    let broker = RedisBroker::start().await.unwrap();
    let queue = open(ConnectOptions::new(broker.url()).namespace("soon")).await.unwrap();
    let starved = queue.starved();
    let traffic = Traffic::begin(Arc::new(queue)).await;
    for call in GIVEN_UP_SOON {
        starved.starve(call);
        assert!(traffic.flows(WORKS_WITHIN).await, "{call}: {:?}", traffic.counts());
        starved.feed();
    }
}

/// A call that is new in the sources must be in a table above.
#[test]
fn no_call_is_forgotten() {
    let known: Vec<&str> = CALLS
        .iter()
        .map(|(name, _)| *name)
        .chain(AFTER_A_FAULT.iter().copied())
        .chain(GIVEN_UP_SOON.iter().copied())
        .collect();
    let mut found = 0;
    for text in sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))) {
        let tokens: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for begins in ["Deadline::new(\"", ".call(\"", ".run(\"", "each(&self.handle, \""] {
            for name in tokens.split(begins).skip(1).filter_map(|rest| rest.split('"').next()) {
                found += 1;
                assert!(known.contains(&name), "{name:?} is starved by no test");
            }
        }
    }
    assert!(found > known.len(), "only {found} calls were found: are they written otherwise now?");
}

/// The texts of the sources below a folder, without tests.
fn sources(folder: &Path) -> Vec<String> {
    let paths = read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| match path.is_dir() {
        true if path.ends_with("tests") => Vec::new(),
        true => sources(&path),
        false => {
            let text = read_to_string(path).unwrap();
            vec![text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned()]
        }
    };
    paths.flat_map(read).collect()
}

/// The control of the test before: what nobody starves is never red.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_is_never_red() {
    let broker = RedisBroker::start().await.unwrap();
    let options = ConnectOptions::new(broker.url()).namespace("fed");
    let traffic = Traffic::begin(Arc::new(open(options).await.unwrap())).await;
    assert_eq!(traffic.first_red(RED_WITHIN).await, None);
}
