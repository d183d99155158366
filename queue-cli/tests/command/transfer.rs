//! Messages from queue to queue: `move`, and `consume | publish --ndjson`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::on::{On, lines};

const MESSAGES: usize = 300;

/// How often each message is in a queue, by its text.
fn taken(on: &On, queue: &str) -> BTreeMap<String, usize> {
    let ran = on.run(&["consume", queue, "--wait", "3s"]);
    let mut seen = BTreeMap::new();
    for line in lines(&ran.out) {
        *seen.entry(line["text"].as_str().expect("text").to_owned()).or_default() += 1;
    }
    seen
}

/// Three hundred messages, the first of this number.
fn fill(on: &On, queue: &str, first: usize) {
    let padding = "x".repeat(20_000);
    let line =
        |n: usize| json!({ "text": n.to_string(), "headers": { "padding": padding } }).to_string() + "\n";
    let input: String = (first..first + MESSAGES).map(line).collect();
    assert_eq!(on.with_input(&["publish", queue, "--ndjson"], input.as_bytes()).code, 0);
}

fn ready(on: &On, queue: &str) -> u64 {
    let ran = on.run(&["stats", queue, "-o", "json"]);
    let stats: Value = serde_json::from_str(&ran.out).unwrap_or_default();
    stats[0]["ready"].as_u64().unwrap_or_default()
}

/// Kills moves from `a` to `b` until one had moved some and not all; how many messages were published for it.
fn kill_in_the_middle(on: &On) -> usize {
    let (mut published, mut lives) = (0, Duration::from_millis(20));
    for _ in 0..100 {
        if ready(on, "a") == 0 {
            fill(on, "a", published);
            published += MESSAGES;
        }
        let before = ready(on, "b");
        let mut child = on.command(&["move", "a", "b", "--lease", "2s"]).spawn().expect("the command starts");
        std::thread::sleep(lives);
        child.kill().expect("it is ours");
        child.wait().expect("it ends");
        let (left, there) = (ready(on, "a"), ready(on, "b"));
        match (left, there > before) {
            (0, _) => lives = lives.saturating_sub(Duration::from_millis(7)),
            (_, false) => lives += Duration::from_millis(5),
            (_, true) => return published,
        }
    }
    panic!("no move was caught in the middle");
}

fn a_move_that_is_killed_loses_nothing(on: &On) {
    let published = kill_in_the_middle(on);
    // The end of a lease is noticed late on a busy machine.
    std::thread::sleep(Duration::from_secs(5));
    let (mut all, left) = (taken(on, "b"), taken(on, "a"));
    assert!(!left.is_empty(), "some were not moved");
    for (text, times) in left {
        *all.entry(text).or_default() += times;
    }
    assert_eq!(all.len(), published, "each is in one queue at least");
}

fn a_move_keeps_the_messages_as_they_are(on: &On) {
    let id = on.ok(&[
        "publish",
        "a",
        "hi",
        "--kind",
        "k",
        "-p",
        "9",
        "--header",
        "h=v",
        "--ttl",
        "1h",
        "--dedup-key",
        "d",
    ]);
    on.ok(&["publish", "a", "second", "--count", "2"]);
    let moved = on.json(&["move", "a", "b", "--max", "2"]);
    assert_eq!(moved, json!({ "from": "a", "to": "b", "moved": 2 }));
    let got = &lines(&on.ok(&["consume", "b", "--max", "1"]))[0];
    assert_eq!((&got["id"], &got["text"], &got["kind"]), (&json!(id.trim()), &json!("hi"), &json!("k")));
    assert_eq!((&got["priority"], &got["attempt"], &got["ttl"]), (&json!(9), &json!(1), &json!("1h")));
    assert_eq!((&got["headers"], &got["dedup_key"]), (&json!({ "h": "v" }), &json!("d")));
    assert_eq!(ready(on, "a"), 1, "no more than were asked for");
    assert!(on.ok(&["move", "a", "b", "--wait", "500ms"]).contains("1 moved from a to b"));
    assert_eq!(on.run(&["move", "a", "b", "--wait", "100ms"]).code, 3, "nothing waits");
    assert_eq!(on.run(&["move", "none", "b"]).code, 3, "no such queue");
    assert_eq!(on.run(&["move", "a", "a"]).code, 2, "two queues");
}

fn what_the_other_queue_refuses_stays(on: &On) {
    on.ok(&["publish", "b", "first", "--dedup-key", "d"]);
    on.ok(&["publish", "a", "second", "--dedup-key", "d"]);
    let ran = on.run(&["move", "a", "b", "--wait", "500ms"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("dedup key") && ran.err.contains("stays"), "{}", ran.err);
    let kept = &lines(&on.ok(&["consume", "a", "--max", "1"]))[0];
    assert_eq!((&kept["text"], &kept["attempt"]), (&json!("second"), &json!(1)));
}

fn what_consume_prints_can_be_published(on: &On) {
    on.ok(&["publish", "a", "keyed", "--dedup-key", "d", "-p", "10"]);
    let id = on.ok(&["publish", "a", "hi", "--kind", "k", "-p", "9", "--header", "h=v", "--ttl", "90s"]);
    assert_eq!(on.with_input(&["publish", "a", "-"], &[0, 255]).code, 0);
    let printed = on.ok(&["consume", "a", "--max", "3"]);
    let ran = on.with_input(&["publish", "b", "--ndjson"], printed.as_bytes());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(ran.out.contains(id.trim()), "the ids are kept: {}", ran.out);
    assert_eq!(on.ok(&["consume", "b", "--max", "3"]), printed);
}

crate::on_each_broker!(
    a_move_that_is_killed_loses_nothing,
    a_move_keeps_the_messages_as_they_are,
    what_the_other_queue_refuses_stays,
    what_consume_prints_can_be_published,
);
