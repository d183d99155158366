//! doctor: each check, good and wrong.

use polyqueue_conformance::broker::{Broker as _, RabbitBroker, RedisBroker};
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
    assert_eq!(checks, ["reach", "version", "persistence", "eviction", "clock", "undeliverable"]);
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
fn a_server_that_evicts_only_what_has_a_time_to_live_is_good() {
    let (_broker, on) = private(&["--maxmemory-policy", "volatile-lru"]);
    let (code, states, ran) = examined(&on);
    assert_eq!((code, wrong(&states)), (0, vec![]), "{ran:?}");
    assert!(ran.out.contains("volatile-lru"), "it says so: {ran:?}");
    on.ok(&["publish", "mail", "is taken"]);
}

#[test]
fn over_a_socket_of_this_machine_all_is_looked_at() {
    // The server makes a relative path in the directory that it runs in.
    let (broker, on) = private(&["--unixsocket", "r.sock", "--maxmemory-policy", "allkeys-lru"]);
    let on = on.with("REDIS_URL", &format!("redis+unix://{}", broker.dir().join("r.sock").display()));
    let (code, states, ran) = examined(&on);
    let checks: Vec<&str> = states.iter().map(|(check, _)| check.as_str()).collect();
    assert_eq!(checks, ["reach", "version", "persistence", "eviction", "clock", "undeliverable"], "{ran:?}");
    assert_eq!((code, wrong(&states)), (4, vec!["eviction"]), "{ran:?}");
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

#[test]
fn an_entry_that_cannot_be_read_is_wrong() {
    let (broker, on) = private(&[]);
    on.ok(&["publish", "mail", "readable"]);
    assert_eq!(examined(&on).0, 0, "what can be read is not wrong");
    wait(broker.command("XADD polyqueue:{mail}:s:5 * v 99 b unreadable")).expect("it obeys");
    let (code, states, ran) = examined(&on);
    assert_eq!((code, wrong(&states)), (4, vec!["undeliverable"]), "{ran:?}");
    assert!(ran.out.contains("mail: 1"), "it says where: {ran:?}");
}

/// One broker for all, for it takes long to start.
#[test]
fn what_is_wrong_with_a_rabbitmq_is_found() {
    let broker = wait(RabbitBroker::start_managed()).expect("a private rabbitmq-server");
    let on = On::memory().with("MESSAGE_QUEUE_PROVIDER", "rabbitmq").with("RABBITMQ_URL", &broker.url());
    let url = broker.management_url().expect("it was started with one");
    let managed = || {
        let ran = on.run(&["doctor", "-o", "json", "--management", &url]);
        let findings: Vec<Value> = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("JSON: {ran:?}"));
        let states = findings.iter().map(|finding| {
            let text = |field: &str| finding[field].as_str().expect("text").to_owned();
            (text("check"), text("state"))
        });
        (ran.code, states.collect::<Vec<_>>(), ran)
    };
    // What the plugin says of queues is some seconds old.
    let seen = |check: &str| {
        let began = std::time::Instant::now();
        loop {
            let (code, states, ran) = managed();
            if wrong(&states).contains(&check) || began.elapsed().as_secs() > 30 {
                return (code, states, ran);
            }
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
    };
    let eval = |expressions: &str| wait(broker.eval(expressions)).expect("it obeys");
    on.ok(&["publish", "mail", "hello"]);

    let (code, states, ran) = managed();
    assert_eq!((code, wrong(&states)), (0, vec![]), "{ran:?}");
    let good = states.iter().filter(|(_, state)| state == "good").map(|(check, _)| check.as_str());
    assert_eq!(
        good.collect::<Vec<_>>(),
        ["reach", "version", "undeliverable", "delays", "remains", "alarms", "policies"]
    );

    let (code, states, ran) = examined(&on);
    assert_eq!((code, wrong(&states)), (0, vec![]), "{ran:?}");
    for check in ["alarms", "policies", "consumer timeout"] {
        assert!(states.contains(&(check.into(), "unknown".into())), "{ran:?}");
    }
    assert!(ran.out.contains("not seen, give --management"), "{ran:?}");

    eval(
        "rabbit_policy:set(<<\"/\">>, <<\"short\">>, <<\"^polyqueue.q\">>, [{<<\"message-ttl\">>, 60000}], 1, <<\"queues\">>, <<\"test\">>)",
    );
    let (code, states, ran) = seen("policies");
    assert_eq!((code, wrong(&states)), (4, vec!["policies"]), "{ran:?}");
    assert!(ran.out.contains("polyqueue.q.mail") && ran.out.contains("message-ttl"), "{ran:?}");
    eval("rabbit_policy:delete(<<\"/\">>, <<\"short\">>, <<\"test\">>)");
    let began = std::time::Instant::now();
    while managed().0 != 0 && began.elapsed().as_secs() < 30 {
        std::thread::sleep(std::time::Duration::from_millis(500));
    }

    let alarm = "{resource_limit, memory, node()}";
    eval(&format!("rabbit_alarm:set_alarm({{{alarm}, []}})"));
    let (code, states, ran) = managed();
    assert_eq!((code, wrong(&states)), (4, vec!["alarms"]), "{ran:?}");
    eval(&format!("rabbit_alarm:clear_alarm({alarm})"));

    on.ok(&["publish", "mail", "late", "--delay", "1s"]);
    let (code, states, ran) = managed();
    assert_eq!((code, wrong(&states)), (4, vec!["delays"]), "{ran:?}");
    assert!(ran.out.contains("delayed messages wait, and no client"), "{ran:?}");

    eval(
        "rabbit_amqqueue:declare(rabbit_misc:r(<<\"/\">>, queue, <<\"polyqueue.lost\">>), true, false, [], none, <<\"test\">>)",
    );
    eval(
        "rabbit_basic:publish(rabbit_misc:r(<<\"/\">>, exchange, <<>>), <<\"polyqueue.lost\">>, [], <<\"late\">>)",
    );
    let (code, states, ran) = managed();
    assert_eq!((code, wrong(&states)), (4, vec!["undeliverable", "delays"]), "{ran:?}");

    let ran = on.run(&["doctor", "-o", "json", "--management", &url.replace("guest:guest", "guest:wrong")]);
    assert!(ran.out.contains("401") && !ran.out.contains("wrong@"), "{ran:?}");
    assert_eq!(on.run(&["doctor", "--management", "ftp://host"]).code, 2);
}
