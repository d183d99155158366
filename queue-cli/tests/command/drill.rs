//! drill: what it prints, and how it ends.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::on::On;

const COUNTS: [&str; 8] =
    ["faults", "published", "delivered", "duplicates", "lost", "early", "late", "silent"];

#[test]
fn memory_keeps_every_promise_and_one_document_says_so() {
    let on = On::memory();
    let ran = on.run(&["drill", "--backend", "memory", "--for", "20s", "--seed", "7", "-o", "json"]);
    let report: Value = serde_json::from_str(&ran.out).expect("one JSON document, alone");
    let counts = COUNTS.map(|count| report[count].as_u64().expect(count));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(counts[0] > 0 && counts[1] > 100 && counts[2] > 100, "{ran:?}");
    assert_eq!(counts[4..], [0, 0, 0, 0], "{ran:?}");
    assert_eq!(ran.err, "", "it is silent in a pipe");
    let said = on.ok(&["drill", "--backend", "memory", "--for", "20s", "--seed", "7"]);
    assert!(said.contains("time line") && said.contains("every promise was kept"), "{said}");
}

#[test]
fn another_ones_redis_suffers_nothing_and_keeps_nothing() {
    let on = On::redis("drill_url");
    let url = on.url();
    let args = ["drill", "--url", &url, "--for", "3s", "--seed", "7", "-o", "json"];
    let ran = on.run(&args);
    assert_eq!(ran.code, 0, "{ran:?}");
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    let timeline = report["timeline"].as_array().expect("a list");
    let on_the_way = |it: &Value| it["what"].as_str().is_some_and(|what| what.starts_with("links"));
    assert!(!timeline.is_empty() && timeline.iter().all(on_the_way), "{ran:?}");
    let server = url.trim_end_matches('/').rsplit_once(':').map(|(_, port)| port.to_owned()).expect("a port");
    // Other drills may be on the same server.
    let ours = format!("{}:*", report["namespace"].as_str().expect("a name"));
    let keys = std::process::Command::new("redis-cli").args(["-p", &server, "KEYS", &ours]).output();
    let keys = String::from_utf8(keys.expect("redis-cli").stdout).expect("text");
    assert_eq!(keys.trim(), "", "the scratch namespace is deleted");
}

#[test]
fn clients_that_are_processes_are_killed() {
    let on = On::redis("drill_kills");
    let url = on.url();
    let ran =
        on.run(&["drill", "--url", &url, "--only", "kills", "--for", "6s", "--seed", "7", "-o", "json"]);
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(report["faults"].as_u64() > Some(1) && report["published"].as_u64() > Some(100), "{ran:?}");
}

#[test]
fn an_interrupt_ends_it_with_a_report() {
    let on = On::redis("drill_interrupt");
    let url = on.url();
    let began = Instant::now();
    let mut child = on
        .command(&["drill", "--url", &url, "--for", "10m", "--seed", "7", "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    std::thread::sleep(Duration::from_secs(3));
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill").success());
    let mut out = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut out).expect("text");
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert!(child.wait().expect("its end").success() && report["stopped"] == true, "{out}");
    assert!(began.elapsed() < Duration::from_secs(120));
}

#[test]
fn a_broker_that_is_down_is_no_broken_promise() {
    let on = On::memory();
    for url in ["redis://u:hunter2@127.0.0.1:1", "amqp://u:hunter2@127.0.0.1:1/%2f"] {
        let args = ["drill", "--url", url, "--for", "3s"];
        let ran = on.run(&args);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran:?}");
        for says in ["127.0.0.1:1", "is unavailable", "next: check that the broker runs"] {
            assert!(ran.err.contains(says), "{says}: {ran:?}");
        }
        let ran = on.run(&[args.as_slice(), &["-o", "json"]].concat());
        let said: Value = serde_json::from_str(&ran.out).expect("one JSON document, alone");
        assert!(
            ran.code == 1 && said["error"].as_str().is_some_and(|it| it.contains("unavailable")),
            "{ran:?}"
        );
        assert!(!format!("{ran:?}").contains("hunter2"), "{ran:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let on = On::memory();
    for args in [
        ["drill", "--backend", "memory", "--url", "redis://127.0.0.1:1"].as_slice(),
        &["drill", "--url", "memory://x"],
        &["drill", "--for", "soon"],
        &["drill-client"],
    ] {
        assert_eq!(on.run(args).code, 2, "{args:?}");
    }
}
