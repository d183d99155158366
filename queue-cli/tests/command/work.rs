//! `work`: xargs for queues.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::on::{On, lines};

fn a_command_gets_the_message(on: &On) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("seen");
    on.ok(&[
        "publish",
        "q",
        "payload",
        "--kind",
        "k",
        "-p",
        "7",
        "--header",
        "trace-id=t",
        "--max-attempts",
        "6",
    ]);
    let script = format!(
        r#"{{ cat; env | grep ^POLYQUEUE_ | grep -v -e NAMESPACE | sort; }} > {}"#,
        file.to_str().expect("a path of text")
    );
    on.ok(&["work", "q", "--exec", &script, "--until-empty"]);
    let seen = std::fs::read_to_string(file).expect("the command ran");
    for expected in [
        "payload",
        "POLYQUEUE_QUEUE=q",
        "POLYQUEUE_KIND=k",
        "POLYQUEUE_PRIORITY=7",
        "POLYQUEUE_ATTEMPT=1",
        "POLYQUEUE_MAX_ATTEMPTS=6",
        "POLYQUEUE_PUBLISHED_AT=20",
        "POLYQUEUE_HEADER_TRACE_ID=t",
        "POLYQUEUE_ID=",
    ] {
        assert!(seen.contains(expected), "{expected} is missing in {seen}");
    }
    assert_eq!(on.json(&["stats", "q"])[0]["ready"], 0);
}

fn failures_are_retried_and_then_dead(on: &On) {
    on.ok(&["publish", "q", "x"]);
    let began = Instant::now();
    let ran = on.run(&[
        "work",
        "q",
        "--exec",
        "echo first >&2; echo \"try $POLYQUEUE_ATTEMPT\" >&2; exit 1",
        "--max-attempts",
        "3",
        "--backoff",
        "200ms..1s",
        "--until-empty",
    ]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(began.elapsed() >= Duration::from_millis(600), "200 ms, then 400 ms");
    let letter = &on.json(&["dead", "list", "q"])[0];
    assert_eq!((&letter["reason"], &letter["error"]), (&"max_attempts".into(), &"try 3".into()));
    assert_eq!(letter["attempts"], 3);
}

fn enough_is_enough(on: &On) {
    on.ok(&["publish", "q", "x", "--count", "5"]);
    on.ok(&["work", "q", "--exec", "true", "--max", "2", "--concurrency", "4"]);
    let left = on.ok(&["consume", "q", "--wait", "500ms"]);
    assert_eq!(left.lines().count(), 3, "{left}");
    assert!(
        left.lines().all(|line| line.contains(r#""attempt":1"#)),
        "not started is not an attempt: {left}"
    );
}

fn a_command_that_takes_too_long_is_ended(on: &On) {
    on.ok(&["publish", "q", "x", "--max-attempts", "1"]);
    let began = Instant::now();
    on.ok(&["work", "q", "--exec", "sleep 30", "--timeout", "300ms", "--until-empty"]);
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(on.json(&["dead", "list", "q"])[0]["reason"], "max_attempts");
}

fn sigterm_lets_a_running_command_finish(on: &On) {
    let directory = tempfile::tempdir().expect("a directory");
    let (begun, done) = (directory.path().join("begun"), directory.path().join("done"));
    on.ok(&["publish", "q", "x"]);
    let script = format!("touch {}; sleep 1; touch {}", begun.display(), done.display());
    let mut worker = on.command(&["work", "q", "--exec", &script]).spawn().expect("the worker starts");
    until("the command begins", || begun.exists());
    terminate(&worker);
    assert!(worker.wait().expect("the worker ends").success());
    assert!(done.exists(), "it was not cut short");
    assert_eq!(on.run(&["consume", "q", "--wait", "300ms"]).code, 3, "it was acked");
}

fn what_a_command_leaves_running_delays_neither_reply_nor_settling(on: &On) {
    on.ok(&["bind", "brain", "ask"]);
    let args = ["work", "brain", "--reply", "--max", "1", "--exec", "sleep 25 & echo x"];
    let mut worker = on.command(&args).spawn().expect("the worker starts");
    let began = Instant::now();
    let reply = lines(&on.ok(&["request", "brain", "hello", "--timeout", "20s"]));
    assert_eq!(reply[0]["text"], "x\n");
    assert!(worker.wait().expect("the worker ends").success());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(on.run(&["consume", "brain", "--wait", "300ms"]).code, 3, "it was acked");
}

fn a_worker_that_cannot_work_burns_no_message(on: &On) {
    on.ok(&["publish", "q", "x", "--max-attempts", "1", "--count", "40"]);
    let args = ["work", "q", "--exec", "/no/such/binary", "-c", "8", "--timeout", "500ms", "--until-empty"];
    let ran = on.run(&args);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("5 times in a row") && ran.err.contains("/no/such/binary"), "{}", ran.err);
    let begun = ran.err.matches("not found").count();
    assert!(begun < 100, "it backs off, and yet began {begun} commands");
    let left = on.ok(&["consume", "q", "--wait", "3s"]);
    assert_eq!(left.lines().count(), 40, "{left}");
    assert!(left.lines().all(|line| line.contains(r#""attempt":1"#)), "no attempt was counted: {left}");
}

fn a_command_that_could_not_run_uses_up_no_place(on: &On) {
    let directory = tempfile::tempdir().expect("a directory");
    let mark = directory.path().join("mark");
    let script = format!("[ -e {0} ] || {{ touch {0}; exit 127; }}", mark.display());
    on.ok(&["publish", "q", "x", "--max-attempts", "1", "--count", "3"]);
    let ran = on.run(&["work", "q", "--exec", &script, "--max", "2"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("2 acked, 0 retried, 0 dead"), "{}", ran.err);
    let left = on.ok(&["consume", "q", "--max", "1", "--wait", "10s"]);
    assert!(left.contains(r#""attempt":1"#), "{left}");
}

fn a_command_that_no_shell_reads_takes_no_message(on: &On) {
    on.ok(&["publish", "q", "x"]);
    let ran = on.run(&["work", "q", "--exec", "if true", "--until-empty"]);
    assert!(ran.code == 2 && ran.err.contains("--exec"), "{ran:?}");
    assert_eq!(on.json(&["stats", "q"])[0]["ready"], 1);
}

fn one_worker_serves_several_queues(on: &On) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("seen");
    for (queue, count) in [("a", "3"), ("b", "4")] {
        on.ok(&["publish", queue, "x", "--count", count]);
    }
    on.ok(&["bind", "c", "never"]);
    let script = format!("echo $POLYQUEUE_QUEUE >> {}", file.display());
    let of = |queue| {
        std::fs::read_to_string(&file).map_or(0, |seen| seen.lines().filter(|line| *line == queue).count())
    };
    on.ok(&["work", "a", "b", "c", "--exec", &script, "--max", "2"]);
    assert_eq!(of("a") + of("b"), 2, "the maximum is of all together");
    on.ok(&["work", "a", "b", "c", "--exec", &script, "--until-empty"]);
    assert_eq!((of("a"), of("b")), (3, 4));
    let twice = on.run(&["work", "a", "a", "--exec", "true", "--until-empty"]);
    assert!(twice.code == 2 && twice.err.contains("twice"), "{twice:?}");
}

fn several_queues_are_worked_until_a_retry_of_the_last_is_done(on: &On) {
    on.ok(&["publish", "a", "x"]);
    on.ok(&["publish", "b", "x"]);
    let script = r#"[ "$POLYQUEUE_QUEUE" = a ] || [ "$POLYQUEUE_ATTEMPT" = 3 ]"#;
    let args = ["work", "a", "b", "--exec", script, "--backoff", "700ms..700ms", "--until-empty"];
    let ran = on.run(&args);
    assert!(ran.code == 0 && ran.err.contains("2 acked, 2 retried, 0 dead"), "{ran:?}");
}

fn requests_to_several_queues_are_answered(on: &On) {
    on.ok(&["bind", "a", "ask"]);
    on.ok(&["bind", "b", "ask"]);
    let args = ["work", "a", "b", "--reply", "--max", "2", "--exec", "echo $POLYQUEUE_QUEUE"];
    let mut worker = on.command(&args).spawn().expect("the worker starts");
    for queue in ["a", "b"] {
        let reply = lines(&on.ok(&["request", queue, "who", "--timeout", "20s"]));
        assert_eq!(reply[0]["text"], format!("{queue}\n"));
    }
    assert!(worker.wait().expect("the worker ends").success());
}

fn terminate(child: &Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
}

fn until(what: &str, probe: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !probe() {
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

crate::on_each_broker!(
    a_command_gets_the_message,
    failures_are_retried_and_then_dead,
    enough_is_enough,
    a_command_that_takes_too_long_is_ended,
    sigterm_lets_a_running_command_finish,
    what_a_command_leaves_running_delays_neither_reply_nor_settling,
    a_worker_that_cannot_work_burns_no_message,
    a_command_that_could_not_run_uses_up_no_place,
    a_command_that_no_shell_reads_takes_no_message,
    one_worker_serves_several_queues,
    several_queues_are_worked_until_a_retry_of_the_last_is_done,
    requests_to_several_queues_are_answered,
);
