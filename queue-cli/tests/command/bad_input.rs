//! Bad input and brokers that are not there: what, where and what to do.

use crate::on::On;

/// A port of loopback that nobody listens on: bound, then let go.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

#[test]
fn the_demo_needs_nothing_and_tells_the_whole_story() {
    let ran = On::memory().run(&["demo"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for chapter in ["Priority", "Delay", "Retry", "Dead letter", "Redrive", "Stats"] {
        assert!(ran.out.contains(chapter), "{chapter} is missing in {}", ran.out);
    }
    let order: Vec<&str> = ran.out.lines().filter(|line| line.contains("handed out")).collect();
    assert!(order[0].contains("password reset") && order[3].contains("newsletter"), "{order:?}");
    assert!(ran.out.contains("attempt 3") && ran.out.contains("no such product"), "{}", ran.out);
    assert!(ran.err.contains("nothing outlives it"), "{}", ran.err);
}

#[test]
fn memory_that_nobody_chose_is_warned_of_but_for_the_demo() {
    let ran = On::nothing_chosen().run(&["stats"]);
    assert_eq!(ran.err.matches("MESSAGE_QUEUE_PROVIDER").count(), 1, "{ran:?}");
    for ran in [On::memory().run(&["stats"]), On::nothing_chosen().run(&["demo"])] {
        assert!(!ran.err.contains("MESSAGE_QUEUE_PROVIDER"), "{ran:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf_8_is_refused_by_its_name() {
    use std::os::unix::ffi::OsStrExt as _;
    let broken = std::ffi::OsStr::from_bytes(b"a\xff");
    for (variable, args) in [
        ("MESSAGE_QUEUE_PROVIDER", &["stats"][..]),
        ("MEMORY_URL", &["stats"]),
        ("POLYQUEUE_NAMESPACE", &["stats"]),
        ("POLYQUEUE_NAMESPACE", &["--url", "memory://x", "stats"]),
        ("RUST_LOG", &["stats"]),
    ] {
        let output = On::memory().command(args).env(variable, broken).output().expect("the command runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(variable) && said.contains("UTF-8"), "{said}");
    }
}

#[test]
fn a_filter_of_the_log_that_makes_no_sense_is_refused() {
    let ran = On::memory().with("RUST_LOG", "polyqueue=loud").run(&["stats"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("RUST_LOG") && ran.err.contains("loud"), "{}", ran.err);
}

fn the_demo_is_the_same_story(on: &On) {
    let out = on.ok(&["demo"]);
    assert!(out.contains("attempt 3") && out.contains("redriven    1 of 1"), "{out}");
    assert_eq!(on.run(&["stats"]).code, 3, "it leaves no queue behind");
}

#[test]
fn usage_errors_name_the_value_and_what_is_allowed() {
    let long = "x".repeat(201);
    for (args, says) in [
        (&["publish", "q", "x", "-p", "0"][..], "1 to 10"),
        (&["publish", "q", "x", "-p", "11"], "1 to 10"),
        (&["publish", "q", "x", "--delay=-1s"], "--delay"),
        (&["publish", "q", "x", "--delay", "9999d"], "365 days"),
        (&["publish", "q", "x", "--max-attempts", "0"], "--max-attempts"),
        (&["publish", "", "x"], "1 to 200 bytes"),
        (&["publish", &long, "x"], "1 to 200 bytes"),
        (&["publish", "a\nb", "x"], "control character"),
        (&["publish", "amq.x", "x"], "reserved"),
        (&["consume", "q", "--lease", "0s"], "lease"),
        (&["--url", "nonsense", "stats"], "memory://"),
        (&["--url", "kafka://host", "stats"], "memory://"),
        (&["purge", "q"], "--yes"),
    ] {
        let ran = On::memory().run(args);
        assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
        assert!(ran.err.contains(says), "{args:?} does not say {says}: {}", ran.err);
    }
}

#[test]
fn an_unknown_provider_lists_the_known() {
    let ran = On::memory().with("MESSAGE_QUEUE_PROVIDER", "kafka").run(&["stats"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("kafka") && ran.err.contains("memory, redis, rabbitmq"), "{}", ran.err);
}

#[test]
fn a_broker_that_is_not_there_is_named_without_its_password() {
    let port = free_port();
    for (provider, url) in [
        ("redis", format!("redis://:hunter2@127.0.0.1:{port}")),
        ("rabbitmq", format!("amqp://guest:hunter2@127.0.0.1:{port}/%2f")),
    ] {
        let ran = On::memory().run(&["--url", &url, "stats"]);
        assert_eq!(ran.code, 1, "{ran:?}");
        let address = format!("127.0.0.1:{port}");
        assert!(
            ran.err.contains(provider) && ran.err.contains(&address) && ran.err.contains("next:"),
            "{}",
            ran.err
        );
        assert!(!ran.err.contains("hunter2"), "{}", ran.err);
        assert_eq!(ran.err.to_lowercase().matches("connection refused").count(), 1, "{}", ran.err);
    }
}

fn an_unknown_queue_is_nothing_there(on: &On) {
    for args in [&["stats", "none"][..], &["purge", "none", "--yes"], &["dead", "list", "none"], &["stats"]] {
        assert_eq!(on.run(args).code, 3, "{args:?}");
    }
}

#[test]
fn wrong_credentials_are_denied_at_once() {
    let on = On::rabbitmq("wrong_credentials");
    let good = on.url();
    let bad = good.replace("guest:guest", "guest:hunter2");
    assert_ne!(good, bad);
    let ran = On::memory().run(&["--url", &bad, "stats"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("denied") && ran.err.contains("user and password"), "{}", ran.err);
    assert!(!ran.err.contains("hunter2"), "{}", ran.err);
}

crate::on_each_broker!(the_demo_is_the_same_story, an_unknown_queue_is_nothing_there);
