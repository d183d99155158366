//! doctor: each check, good and wrong.

use polyqueue_conformance::broker::{Broker as _, RedisBroker};
use serde_json::Value;

use crate::on::{On, Ran, wait};

/// How each check ended, by its name, and the exit code.
fn examined(on: &On) -> (i32, Vec<(String, String)>, Ran) {
    let ran = on.run(&["doctor", "-o", "json"]);
    let findings: Vec<Value> = serde_json::from_str(&ran.out).expect("JSON");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let states = findings.iter().map(|finding| (text(&finding["check"]), text(&finding["state"]))).collect();
    (ran.code, states, ran)
}

fn private(options: &[&str]) -> (RedisBroker, On) {
    let broker = wait(RedisBroker::start_with(options)).expect("a private redis-server");
    let on = On::memory().with("MESSAGE_QUEUE_PROVIDER", "redis").with("REDIS_URL", &broker.url());
    (broker, on)
}

fn wrong(states: &[(String, String)]) -> Vec<&str> {
    states.iter().filter(|(_, state)| state == "wrong").map(|(check, _)| check.as_str()).collect()
}

#[test]
fn a_good_server_has_nothing_wrong() {
    let (_broker, on) = private(&[]);
    let (code, states, ran) = examined(&on);
    assert_eq!((code, wrong(&states)), (0, vec![]), "{ran:?}");
    let checks: Vec<&str> = states.iter().map(|(check, _)| check.as_str()).collect();
    assert_eq!(checks, ["reach", "version", "persistence", "eviction", "clock"]);
    assert!(on.ok(&["doctor"]).contains("noeviction"), "a table for people");
}

#[test]
fn a_server_that_loses_messages_is_wrong() {
    for (options, check) in [
        (["--appendonly", "no"], "persistence"),
        (["--appendfsync", "no"], "persistence"),
        (["--maxmemory-policy", "allkeys-lru"], "eviction"),
    ] {
        let (_broker, on) = private(&options);
        let (code, states, ran) = examined(&on);
        assert_eq!((code, wrong(&states)), (4, vec![check]), "{options:?}: {ran:?}");
    }
}

#[test]
fn what_may_not_be_asked_is_unknown() {
    let (broker, on) = private(&[]);
    wait(broker.command("ACL SETUSER default -config")).expect("it obeys");
    let (code, states, ran) = examined(&on);
    assert_eq!(code, 0, "{ran:?}");
    assert!(states.contains(&("persistence".into(), "unknown".into())), "{ran:?}");
    assert!(ran.out.contains("CONFIG GET"), "it says which right is missing: {ran:?}");
}

#[test]
fn a_broker_that_cannot_be_reached_is_wrong_and_an_address_without_sense_is_a_mistake() {
    for url in ["redis://127.0.0.1:1", "amqp://guest:hunter2@127.0.0.1:1/%2f"] {
        let ran = On::memory().run(&["--url", url, "doctor", "-o", "json"]);
        assert_eq!(ran.code, 4, "{ran:?}");
        assert!(ran.out.contains("reach") && !ran.out.contains("hunter2"), "{ran:?}");
    }
    assert_eq!(On::memory().run(&["--url", "kafka://host", "doctor"]).code, 2);
}
