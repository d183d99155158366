//! bind, unbind, topology, publish --topic, --ttl and --dedup-key.

use serde_json::json;

use crate::on::{On, lines};

fn texts(on: &On, queue: &str, max: &str) -> Vec<String> {
    let got = lines(&on.ok(&["consume", queue, "--max", max]));
    got.iter().map(|line| line["text"].as_str().expect("text").to_owned()).collect()
}

fn a_topic_reaches_every_bound_queue_and_none_that_was_unbound(on: &On) {
    on.ok(&["bind", "billing", "order.paid.*", "order.refunded.#"]);
    on.ok(&["bind", "audit", "#"]);
    assert_eq!(on.json(&["topology", "test", "order.paid.eu"]), json!(["audit", "billing"]));
    let id = on.ok(&["publish", "--topic", "order.paid.eu", "17 EUR", "-p", "8"]);
    for queue in ["billing", "audit"] {
        let got = lines(&on.ok(&["consume", queue, "--max", "1"]));
        assert_eq!((&got[0]["id"], &got[0]["priority"]), (&json!(id.trim()), &json!(8)), "{queue}");
    }
    on.ok(&["unbind", "billing", "order.paid.*"]);
    assert_eq!(on.run(&["unbind", "billing", "order.paid.*"]).code, 3, "it is gone");
    on.ok(&["bind", "billing", "order.paid.*"]);
    assert_eq!(
        on.run(&["unbind", "billing", "nothing.here", "order.paid.*"]).code,
        3,
        "one of them was not there"
    );
    assert_eq!(on.run(&["unbind", "nowhere", "#"]).code, 3, "no such queue");
    on.ok(&["publish", "--topic", "order.paid.us", "3 USD"]);
    assert_eq!(texts(on, "audit", "1"), ["3 USD"]);
    assert_eq!(on.run(&["consume", "billing", "--wait", "300ms"]).code, 3);
}

fn a_topic_without_queues_is_nothing_there(on: &On) {
    on.ok(&["bind", "q", "a.b"]);
    let ran = on.run(&["publish", "--topic", "a.c", "x"]);
    assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{ran:?}");
    assert!(ran.err.contains("a.c"), "{}", ran.err);
    assert_eq!(on.run(&["topology", "test", "a.c"]).code, 3);
}

fn the_topology_is_the_broker_s_own(on: &On) {
    assert_eq!(on.run(&["topology"]).code, 3, "nothing yet");
    on.ok(&["bind", "q", "a.*", "b.#"]);
    on.ok(&["bind", "q", "a.*"]);
    let topology = on.json(&["topology"]);
    assert_eq!(topology, json!([{ "name": "q", "bindings": ["a.*", "b.#"] }]));
    assert!(on.ok(&["topology"]).contains("b.#"), "a table for people");
    on.ok(&["publish", "--topic", "b", "x"]);
    assert_eq!(on.json(&["stats"])[0]["ready"], 1, "another process filled it");
}

fn an_expired_message_is_a_dead_letter(on: &On) {
    on.ok(&["publish", "q", "stale", "--ttl", "200ms"]);
    on.ok(&["publish", "q", "fresh", "--ttl", "1h"]);
    std::thread::sleep(std::time::Duration::from_millis(600));
    assert_eq!(texts(on, "q", "1"), ["fresh"]);
    let dead = on.json(&["dead", "list", "q", "--reason", "expired"]);
    assert_eq!(dead[0]["text"], "stale");
}

fn a_duplicate_answers_the_first_id(on: &On) {
    let first = on.ok(&["publish", "q", "once", "--dedup-key", "k", "--dedup-window", "1h"]);
    let ran = on.run(&["publish", "q", "twice", "--dedup-key", "k"]);
    assert_eq!((ran.code, &ran.out), (0, &first), "{ran:?}");
    assert!(ran.err.contains("duplicate"), "{}", ran.err);
    let line = on.with_input(&["publish", "q", "--ndjson"], br#"{"text":"other","dedup_key":"l"}"#);
    assert_eq!(line.code, 0, "{line:?}");
    assert_eq!(texts(on, "q", "2"), ["once", "other"]);
    on.ok(&["publish", "plain", "x"]);
    let refused = on.run(&["publish", "plain", "x", "--dedup-key", "k"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("dedup"), "{}", refused.err);
}

crate::on_each_broker! {
    a_topic_reaches_every_bound_queue_and_none_that_was_unbound,
    a_topic_without_queues_is_nothing_there,
    the_topology_is_the_broker_s_own,
    an_expired_message_is_a_dead_letter,
    a_duplicate_answers_the_first_id,
}

#[test]
fn a_queue_and_a_topic_are_one_too_many() {
    for args in [
        &["publish", "--topic", "k", "q", "x"][..],
        &["publish"],
        &["publish", "q", "x", "--ndjson"],
        &["publish", "q", "x", "--ttl", "1s", "--delay", "2s"],
        &["publish", "q", "x", "--dedup-key", ""],
    ] {
        let ran = On::memory().run(args);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}: {ran:?}");
    }
}
