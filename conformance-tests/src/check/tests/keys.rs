//! H22.

use polyqueue::{Dedup, Message, Published, QueueSpec, Settled, Verdict};

use super::script::{Script, id, message, queue};
use super::{breaks_only, broken, good, ms};

fn keyed(name: &str) -> Message {
    message(name).with_dedup_key("k")
}

fn declared(dedup: Dedup) -> Script {
    let mut s = Script::default();
    s.declare(QueueSpec::new(queue()).dedup(dedup), 0..0);
    s.subscribe(1, 3);
    s
}

#[test]
fn h22_two_under_one_key() {
    for (second, rules) in [(2..3, vec!["H22"]), (48..49, vec!["H22"]), (50..51, vec![])] {
        let mut s = declared(Dedup::window(ms(50)));
        s.store(queue(), keyed("a"), 0..1);
        s.store(queue(), keyed("b"), second);
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h22_racers_too_and_another_key_is_another() {
    let mut s = declared(Dedup::window(ms(50)));
    s.store(queue(), keyed("a"), 0..5);
    let mut other = s.clone();
    s.store(queue(), keyed("b"), 1..4);
    breaks_only("H22", &s);
    other.store(queue(), message("b").with_dedup_key("l"), 1..4);
    good(&other);
}

#[test]
fn h22_an_ack_frees_the_key_where_it_was_declared_to() {
    for (dedup, rules) in [(Dedup::window(ms(50)), vec!["H22"]), (Dedup::until_ack(ms(50)), vec![])] {
        let mut s = declared(dedup);
        s.store(queue(), keyed("a"), 0..1);
        let receipt = s.receive(1, 2..3, &[("a", 1)]).remove(0);
        s.settle(1, &receipt, Verdict::Ack, 4..5, Settled::Applied);
        s.store(queue(), keyed("b"), 6..7);
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h22_a_duplicate_is_one_of_what_is_there() {
    let again = |first: &str| Ok(Published::duplicate(id("b"), id(first)));
    for (first, when, rules) in
        [("a", 2..3, vec![]), ("ghost", 2..3, vec!["H22"]), ("a", 51..52, vec![]), ("a", 53..54, vec!["H22"])]
    {
        let mut s = declared(Dedup::window(ms(50)));
        s.store(queue(), keyed("a"), 0..1);
        s.send(queue(), keyed("b"), when, again(first));
        assert_eq!(broken(&s), rules, "{first}");
    }
}

#[test]
fn h_def_a_duplicate_is_not_stored() {
    let mut s = declared(Dedup::window(ms(50)));
    s.store(queue(), keyed("a"), 0..1);
    s.send(queue(), keyed("b"), 2..3, Ok(Published::duplicate(id("b"), id("a"))));
    s.receive(1, 4..5, &[("a", 1), ("b", 1)]);
    breaks_only("H-DEF", &s);
}
