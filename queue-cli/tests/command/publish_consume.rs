//! publish, consume, stats and purge.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::on::{On, lines};

fn what_is_published_is_consumed(on: &On) {
    let id = on.ok(&[
        "publish",
        "q",
        "hello",
        "-p",
        "9",
        "--kind",
        "greeting",
        "--header",
        "a=b",
        "--max-attempts",
        "7",
    ]);
    let got = lines(&on.ok(&["consume", "q", "--max", "1"]));
    assert_eq!(got[0]["id"], id.trim());
    assert_eq!((&got[0]["text"], &got[0]["kind"]), (&json!("hello"), &json!("greeting")));
    assert_eq!((&got[0]["priority"], &got[0]["attempt"]), (&json!(9), &json!(1)));
    assert_eq!(got[0]["headers"], json!({"a": "b"}));
    assert!(got[0]["published_at"].as_str().is_some_and(|time| time.ends_with('Z')), "{got:?}");
    let empty = on.run(&["consume", "q", "--wait", "300ms"]);
    assert_eq!((empty.code, empty.out.as_str()), (3, ""), "acked: {empty:?}");
}

fn bytes_go_in_and_out_unharmed(on: &On) {
    let bytes = [0, 255, 10, 13, 0x80];
    assert_eq!(on.with_input(&["publish", "q", "-"], &bytes).code, 0);
    assert_eq!(lines(&on.ok(&["consume", "q", "--max", "1"]))[0]["base64"], "AP8KDYA=");
}

fn a_bad_line_is_named_and_the_good_ones_are_published(on: &On) {
    let input = br#"{"text":"one","priority":1}
{"text":"two","priority":11}

{"base64":"dGhyZWU=","priority":3,"delay":"10ms","headers":{"h":"v"}}
nonsense
{"text":"six","priority":6}"#;
    let ran = on.with_input(&["publish", "q", "--ndjson", "--kind", "k"], input);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(ran.out.lines().count(), 3, "three ids: {ran:?}");
    assert!(
        ran.err.contains("line 2") && ran.err.contains("1 to 10") && ran.err.contains("line 5"),
        "{}",
        ran.err
    );
    std::thread::sleep(Duration::from_millis(500));
    let got = lines(&on.ok(&["consume", "q", "--max", "3"]));
    let texts: Vec<_> = got.iter().map(|line| line["text"].as_str().expect("text")).collect();
    // Who delayed it has ended, and with RabbitMQ a client moves what is due.
    let place =
        |text| texts.iter().position(|it| *it == text).unwrap_or_else(|| panic!("no {text}: {texts:?}"));
    assert!(place("six") < place("one") && place("three") < 3, "by priority: {texts:?}");
    assert!(got.iter().all(|line| line["kind"] == "k"), "the options hold for every line");
}

fn a_byte_order_mark_is_skipped_and_a_line_without_an_end_refused(on: &On) {
    let input = ["\u{feff}{\"text\":\"one\"}\n", &"x".repeat(200_000_000), "\n{\"text\":\"two\"}\n"].concat();
    let ran = on.with_input(&["publish", "q", "--ndjson"], input.as_bytes());
    assert_eq!((ran.code, ran.out.lines().count()), (1, 2), "{}", ran.err);
    assert!(ran.err.contains("line 2: longer than"), "{}", ran.err);
}

fn copies_are_counted_and_purged(on: &On) {
    assert_eq!(on.ok(&["publish", "q", "x", "--count", "300"]).lines().count(), 300);
    assert_eq!(on.json(&["stats", "q"])[0]["ready"], 300);
    assert_eq!(on.json(&["stats"])[0]["queue"], "q");
    assert!(on.ok(&["stats"]).contains("300"), "a table for people");
    assert_eq!(on.run(&["purge", "q"]).code, 2, "purge wants --yes");
    assert_eq!(on.json(&["purge", "q", "--yes"])["purged"], 300);
    assert_eq!(on.json(&["stats", "q"])[0]["ready"], 0);
}

fn a_delay_is_kept(on: &On) {
    let began = Instant::now();
    on.ok(&["publish", "q", "later", "--delay", "900ms"]);
    assert_eq!(lines(&on.ok(&["consume", "q", "--max", "1", "--wait", "10s"])).len(), 1);
    assert!(began.elapsed() >= Duration::from_millis(900));
}

fn a_verdict_may_be_chosen(on: &On) {
    on.ok(&["publish", "q", "x", "--max-attempts", "9"]);
    on.ok(&["consume", "q", "--max", "1", "--settle", "retry"]);
    let leased = lines(&on.ok(&["consume", "q", "--max", "1", "--settle", "none", "--lease", "500ms"]));
    assert_eq!(leased[0]["attempt"], 2, "a retry counts");
    let back = lines(&on.ok(&["consume", "q", "--max", "1", "--settle", "reject", "--wait", "10s"]));
    assert_eq!(back[0]["attempt"], 3, "the end of a lease counts");
    assert_eq!(on.json(&["dead", "list", "q"])[0]["reason"], "rejected");
}

crate::on_each_broker!(
    what_is_published_is_consumed,
    bytes_go_in_and_out_unharmed,
    a_bad_line_is_named_and_the_good_ones_are_published,
    a_byte_order_mark_is_skipped_and_a_line_without_an_end_refused,
    copies_are_counted_and_purged,
    a_delay_is_kept,
    a_verdict_may_be_chosen,
);
