//! Each rule against a history that breaks it, and a close one that does not.

mod attempts;
mod content;
mod holders;
mod keys;
mod lifetime;
mod loss;
mod moves;
mod order;
mod replies;
mod script;
mod terminal;
mod time;
mod topics;

use std::time::Duration;

use polyqueue::{Settled, Verdict};

use self::script::Script;
use super::all;
use super::found::Bounds;

const LATE: Duration = Duration::from_millis(5);

/// The rules that a history breaks, each once.
fn broken(script: &Script) -> Vec<&'static str> {
    let mut rules: Vec<&str> =
        all(&script.history(), &Bounds::exact(LATE)).iter().map(|it| it.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

#[track_caller]
fn good(script: &Script) {
    let found = all(&script.history(), &Bounds::exact(LATE));
    assert!(found.is_empty(), "{found:?}");
}

#[track_caller]
fn breaks(rule: &str, script: &Script) {
    assert!(broken(script).contains(&rule), "{rule} is not among {:?}", broken(script));
}

#[track_caller]
fn breaks_only(rule: &str, script: &Script) {
    assert_eq!(broken(script), [rule]);
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One message, published, received, acked.
fn simple() -> Script {
    let mut s = Script::default();
    s.subscribe(1, 3);
    s.publish("a", 5, 0, 0..1);
    let receipt = s.receive(1, 2..3, &[("a", 1)]).remove(0);
    s.settle(1, &receipt, Verdict::Ack, 4..5, Settled::Applied);
    s
}

#[test]
fn an_ordinary_life_breaks_nothing() {
    let mut s = simple();
    s.drained(6);
    good(&s);
}
