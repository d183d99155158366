//! Progress: seen on a terminal, silent in a pipe.

use std::process::Stdio;
use std::time::Duration;

use crate::on::{On, Ran};

/// Publishes two lines, one second between them, with a terminal of its own for standard error.
fn slowly(on: &On, terminal: bool) -> Ran {
    let publish = format!("{} publish q --ndjson >/dev/null", env!("CARGO_BIN_EXE_polyqueue"));
    let mut command = match terminal {
        true => on.wrapped("script", &["-qec", &publish, "/dev/null"]),
        false => on.wrapped("sh", &["-c", &publish]),
    };
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the command starts");
    let mut input = child.stdin.take().expect("it was piped");
    for _ in 0..2 {
        std::io::Write::write_all(&mut input, b"{\"text\":\"x\"}\n").expect("it reads");
        std::thread::sleep(Duration::from_secs(2));
    }
    // The end of a terminal's input.
    if terminal {
        std::io::Write::write_all(&mut input, b"\x04").expect("it reads");
    }
    drop(input);
    Ran::from(child.wait_with_output().expect("the command ends"))
}

fn progress_is_for_terminals(on: &On) {
    let seen = slowly(on, true);
    assert!(seen.out.contains("1 published,"), "{seen:?}");
    let piped = slowly(on, false);
    assert_eq!((piped.code, piped.out.as_str(), piped.err.as_str()), (0, "", ""));
}

crate::on_each_broker!(progress_is_for_terminals);
