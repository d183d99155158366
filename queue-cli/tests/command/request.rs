//! request, and work --reply.

use std::process::{Child, Command};

use crate::on::{On, lines};

/// A responder that ends with the test.
struct Responder(Child);

impl Responder {
    fn start(on: &On, args: &[&str]) -> Self {
        Self(on.command(args).spawn().expect("it starts"))
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn a_request_is_answered_by_what_the_command_prints(on: &On) {
    on.ok(&["bind", "brain", "ask.#"]);
    let _responder = Responder::start(on, &["work", "brain", "--exec", "tr a-z A-Z", "--reply"]);
    let reply = lines(&on.ok(&["request", "brain", "hello", "--timeout", "20s"]));
    assert_eq!(reply[0]["text"], "HELLO");
    let broadcast = lines(&on.ok(&["request", "--topic", "ask.all", "hi", "--timeout", "20s"]));
    assert_eq!(broadcast[0]["text"], "HI");
}

fn a_request_that_dies_says_why(on: &On) {
    on.ok(&["bind", "brain", "ask.#"]);
    let failing = ["work", "brain", "--exec", "echo no such thought >&2; exit 65", "--reply"];
    let _responder = Responder::start(on, &failing);
    let ran = on.run(&["request", "brain", "hello", "--timeout", "20s"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("no such thought") && ran.err.contains("next:"), "{}", ran.err);
}

fn a_request_that_nobody_answers_ends(on: &On) {
    on.ok(&["bind", "brain", "ask.#"]);
    let ran = on.run(&["request", "brain", "hello", "--timeout", "300ms"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran:?}");
    assert!(ran.err.contains(r#"queue "brain" within 300ms"#) && ran.err.contains("next:"), "{}", ran.err);
    assert_eq!(on.run(&["request", "nowhere", "hello"]).code, 3);
}

crate::on_each_broker! {
    a_request_is_answered_by_what_the_command_prints,
    a_request_that_dies_says_why,
    a_request_that_nobody_answers_ends,
}
