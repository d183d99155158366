//! Copies of one message in several queues: each is judged by itself, and only where a binding says so.

use polyqueue::{Certainty, Pattern, QueueName, QueueSpec, RoutingKey, Settled, Verdict};

use super::script::{Script, message, queue};
use super::{breaks_only, broken, good};
use crate::history::Call;

fn bound(name: QueueName) -> QueueSpec {
    QueueSpec::new(name).bind(Pattern::new("a.#").unwrap())
}

fn key() -> RoutingKey {
    RoutingKey::new("a.b").unwrap()
}

fn unbind(s: &mut Script, when: std::ops::Range<u64>) {
    let pattern = Pattern::new("a.#").unwrap();
    s.call(when, Call::Unbind { queue: queue(), pattern, answer: Some(Ok(())) });
}

#[test]
fn a_copy_is_expected_where_the_queue_was_surely_bound() {
    for (declared, rules) in [(0..1, vec!["H1"]), (2..4, vec![]), (5..6, vec![])] {
        let mut s = Script::default();
        s.declare(bound(queue()), declared);
        s.declare(bound(QueueName::from_static("another")), 0..1);
        s.store(key(), message("a"), 3..4);
        s.drained(9);
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn a_copy_in_a_queue_that_was_not_bound_is_a_phantom() {
    for (unbound, rules) in [(2..3, vec!["H15"]), (2..5, vec![]), (6..7, vec![])] {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.declare(bound(queue()), 0..1);
        unbind(&mut s, unbound);
        s.store(key(), message("a"), 4..5);
        s.receive(1, 8..9, &[("a", 1)]);
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn a_binding_made_again_counts_again() {
    let mut s = Script::default();
    s.declare(bound(queue()), 0..1);
    unbind(&mut s, 2..3);
    s.declare(bound(queue()), 4..5);
    s.store(key(), message("a"), 6..7);
    s.drained(9);
    breaks_only("H1", &s);
}

#[test]
fn another_key_and_a_refused_publish_reach_nobody() {
    let mut s = Script::default();
    s.subscribe(1, 3);
    s.declare(bound(queue()), 0..1);
    let mut refused = s.clone();
    s.store(RoutingKey::new("b.a").unwrap(), message("a"), 2..3);
    s.receive(1, 4..5, &[("a", 1)]);
    breaks_only("H15", &s);
    refused.send(key(), message("a"), 2..3, Err(Certainty::Definite));
    refused.receive(1, 4..5, &[("a", 1)]);
    breaks_only("H-DEF", &refused);
}

#[test]
fn copies_end_each_by_itself() {
    let mut s = Script::default();
    s.subscribe(1, 3);
    s.declare(bound(queue()), 0..1);
    s.declare(bound(QueueName::from_static("another")), 0..1);
    s.store(key(), message("a"), 2..3);
    let receipt = s.receive(1, 4..5, &[("a", 1)]).remove(0);
    s.settle(1, &receipt, Verdict::Ack, 6..7, Settled::Applied);
    s.drained(9);
    good(&s);
}
