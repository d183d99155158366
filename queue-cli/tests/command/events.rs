//! events: what happens to a handle, a line each.

use std::io::{BufRead as _, BufReader};
use std::process::Command;
use std::time::Duration;

use polyqueue_conformance::broker::{Broker as _, RedisBroker};

use crate::on::{On, Ran, lines, wait};

#[test]
fn what_happens_to_the_connections_is_a_line_each() {
    let broker = wait(RedisBroker::start()).expect("a private redis-server");
    let on = On::memory().with("MESSAGE_QUEUE_PROVIDER", "redis").with("REDIS_URL", &broker.url());
    let mut child = on.command(&["events", "-o", "json"]).spawn().expect("the command starts");
    let mut out = BufReader::new(child.stdout.take().expect("it was piped"));
    let reader = std::thread::spawn(move || {
        let mut first = String::new();
        out.read_line(&mut first).expect("a line");
        first
    });
    // It may not have connected yet.
    for _ in 0..100 {
        wait(broker.close_all_connections()).expect("it runs");
        std::thread::sleep(Duration::from_millis(200));
        if reader.is_finished() {
            break;
        }
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    let first = lines(&reader.join().expect("it read")).remove(0);
    assert_eq!(first["event"], "connection_lost", "{first}");
    assert!(first["at"].as_str().is_some_and(|time| time.ends_with('Z')), "{first}");
    let ran = Ran::from(child.wait_with_output().expect("the command ends"));
    assert!([0, 141].contains(&ran.code), "stopped, or without a reader: {ran:?}");
}
