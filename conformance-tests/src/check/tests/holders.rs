//! H9, H19.

use polyqueue::{Extended, Settled, Verdict};

use super::script::{LEASE, Script};
use super::{breaks, broken, good, ms};

#[test]
fn h9_one_holder_at_a_time() {
    for (ret, rules) in [(101, vec!["H19", "H9"]), (102, vec![])] {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.subscribe(2, 3);
        s.publish("a", 5, 0, 0..1);
        s.receive(1, 2..2, &[("a", 1)]);
        s.receive(2, 90..ret, &[("a", 2)]);
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h9_a_holder_that_is_gone_holds_nothing() {
    let mut s = Script::default();
    s.subscribe(1, 3);
    s.subscribe(2, 3);
    s.publish("a", 5, 0, 0..1);
    s.receive(1, 2..2, &[("a", 1)]);
    s.end_consumer(1, 10);
    s.receive(2, 11..12, &[("a", 2)]);
    good(&s);
}

#[test]
fn h9_an_extended_lease_is_a_lease() {
    let mut s = Script::default();
    s.subscribe(1, 3);
    s.subscribe(2, 3);
    s.publish("a", 5, 0, 0..1);
    let receipt = s.receive(1, 2..2, &[("a", 1)]).remove(0);
    let until = s.at(50 + LEASE);
    s.extend(1, &receipt, 50..50, Extended::Until(until));
    let mut after = s.clone();
    s.receive(2, 110..111, &[("a", 2)]);
    breaks("H9", &s);
    after.receive(2, 150..150, &[("a", 2)]);
    good(&after);
}

#[test]
fn h9_a_lease_is_not_cut_short() {
    for (at, rules) in [(50, vec!["H9"]), (LEASE + 3, vec![])] {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.publish("a", 5, 0, 0..1);
        let receipt = s.receive(1, 2..3, &[("a", 1)]).remove(0);
        s.settle(1, &receipt, Verdict::Ack, at..at + 1, Settled::LeaseLost);
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h19_two_receives_at_once_do_not_both_get_it() {
    let mut s = Script::default();
    s.subscribe(1, 3);
    s.subscribe(2, 3);
    s.publish("a", 5, 0, 1..2);
    let receipt = s.receive(1, 0..3, &[("a", 1)]).remove(0);
    s.settle(1, &receipt, Verdict::retry(ms(0), "e"), 4..5, Settled::Applied);
    let mut again = s.clone();
    again.receive_again(2, 0..6, "a", 2, 1, "e");
    good(&again);
    let receipt = s.receive_again(2, 0..6, "a", 2, 1, "e");
    s.settle(2, &receipt, Verdict::Release { after: ms(0) }, 7..8, Settled::AlreadySettled);
    s.receive_again(1, 6..9, "a", 3, 1, "e");
    breaks("H19", &s);
}
