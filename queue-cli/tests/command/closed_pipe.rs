//! A reader who has gone: `polyqueue … | head -1`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::on::{On, Ran, lines};

/// What a shell shows of a command that a closed pipe ended.
const BY_CLOSED_PIPE: i32 = 141;

/// Runs it with a standard output that nobody reads.
fn unread(on: &On, args: &[&str]) -> Ran {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    Ran::from(on.command(args).stdout(writer).output().expect("the command runs"))
}

fn ends_quietly(on: &On, args: &[&str]) {
    let ran = unread(on, args);
    assert_eq!((ran.code, ran.err.as_str()), (BY_CLOSED_PIPE, ""), "{args:?}");
}

fn no_command_minds_that_nobody_reads(on: &On) {
    ends_quietly(on, &["bind", "q", "a.#"]);
    ends_quietly(on, &["publish", "q", "one"]);
    on.ok(&["publish", "q", "two"]);
    on.ok(&["consume", "q", "--max", "1", "--settle", "reject"]);
    for format in ["table", "json"] {
        for args in [&["stats"][..], &["topology"], &["topology", "test", "a.b"], &["dead", "list", "q"]] {
            ends_quietly(on, &[args, &["-o", format]].concat());
        }
        ends_quietly(on, &["dead", "redrive", "q", "-o", format, "--limit", "1"]);
        on.ok(&["consume", "q", "--max", "1", "--settle", "reject"]);
        ends_quietly(on, &["purge", "q", "--yes", "-o", format]);
    }
    ends_quietly(on, &["dead", "discard", "q", "--yes"]);
    ends_quietly(on, &["unbind", "q", "a.#"]);
    ends_quietly(on, &["demo"]);
}

fn what_nobody_read_goes_back(on: &On) {
    on.ok(&["publish", "q", "kept", "--count", "3"]);
    ends_quietly(on, &["consume", "q"]);
    let back = lines(&on.ok(&["consume", "q", "--max", "3"]));
    assert_eq!(back.len(), 3);
    assert_eq!(back[0]["attempt"], 1, "a hand-out that was not printed is none");
}

#[test]
fn a_reader_who_goes_after_a_line_ends_the_story() {
    let mut child = On::memory().command(&["demo"]).spawn().expect("the command starts");
    let mut out = BufReader::new(child.stdout.take().expect("it was piped"));
    let mut first = String::new();
    out.read_line(&mut first).expect("a line");
    drop(out);
    let ran = Ran::from(child.wait_with_output().expect("the command ends"));
    assert_eq!(ran.code, BY_CLOSED_PIPE, "{ran:?}");
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
}

#[test]
fn nobody_needs_to_read_what_goes_wrong() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = On::memory().command(&["stats"]);
    let output = command.stdout(Stdio::null()).stderr(writer).output().expect("the command runs");
    assert_eq!(output.status.code(), Some(3), "nothing there, as when somebody reads it");
}

crate::on_each_broker!(no_command_minds_that_nobody_reads, what_nobody_read_goes_back);
