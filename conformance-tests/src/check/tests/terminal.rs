//! H3, H10, H13, H14.

use polyqueue::{DeadReason, Extended, Settled, Verdict};

use super::script::{self, LEASE, Script, dead_letter};
use super::{breaks, broken, good, simple};

#[test]
fn h3_an_acked_message_is_no_dead_letter() {
    let mut s = simple();
    let mut before = s.clone();
    s.dead(6..7, &[dead_letter("a", DeadReason::MaxAttempts, 3)]);
    breaks("H3", &s);
    before.publish("b", 5, 0, 5..6);
    let receipt = before.receive(1, 7..8, &[("b", 1)]).remove(0);
    before.settle(1, &receipt, Verdict::reject("no"), 9..10, Settled::Died);
    before.dead(11..12, &[script::dead_letter_of("b", DeadReason::Rejected, 1, "no")]);
    good(&before);
}

#[test]
fn h10_an_acked_message_is_not_handed_out_again() {
    let mut s = simple();
    s.receive(1, 6..7, &[("a", 2)]);
    breaks("H10", &s);
    s.fault(0);
    good(&s);
}

#[test]
fn h10_a_receive_that_waited_since_before_the_ack_counts_too() {
    let mut s = simple();
    s.subscribe(2, 3);
    s.receive(2, 1..8, &[("a", 2)]);
    breaks("H10", &s);
}

#[test]
fn h10_a_redriven_message_may_come_again() {
    let mut s = Script::default();
    s.subscribe(1, 3);
    s.publish("a", 5, 0, 0..1);
    let receipt = s.receive(1, 2..3, &[("a", 1)]).remove(0);
    s.settle(1, &receipt, Verdict::reject("no"), 4..5, Settled::Died);
    s.dead(6..7, &[script::dead_letter_of("a", DeadReason::Rejected, 1, "no")]);
    let mut not = s.clone();
    s.redrive("a", 8..9);
    s.receive(1, 10..11, &[("a", 1)]);
    good(&s);
    not.receive(1, 10..11, &[("a", 2)]);
    breaks("H10", &not);
}

#[test]
fn h13_of_two_verdicts_one_takes_effect() {
    let mut s = simple();
    let receipt = s.receipt_of("a");
    let mut twice = s.clone();
    twice.settle(1, &receipt, Verdict::Ack, 6..7, Settled::Applied);
    breaks("H13", &twice);
    s.settle(1, &receipt, Verdict::Ack, 6..7, Settled::AlreadySettled);
    good(&s);
}

#[test]
fn h14_after_the_lease_nothing_takes_effect() {
    for (inv, rules) in [(LEASE - 1, vec![]), (LEASE + 4, vec!["H14"])] {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.publish("a", 5, 0, 0..1);
        let receipt = s.receive(1, 2..3, &[("a", 1)]).remove(0);
        s.settle(1, &receipt, Verdict::Ack, inv..inv + 1, Settled::Applied);
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h14_an_extension_moves_the_end_and_cannot_wake_the_dead() {
    for (extended, rules) in [(50, vec![]), (LEASE + 4, vec!["H14"])] {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.publish("a", 5, 0, 0..1);
        let receipt = s.receive(1, 2..3, &[("a", 1)]).remove(0);
        let until = s.at(extended + LEASE);
        s.extend(1, &receipt, extended..extended + 1, Extended::Until(until));
        s.settle(1, &receipt, Verdict::Ack, extended + 90..extended + 91, Settled::Applied);
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h14_a_receipt_is_never_used_twice() {
    let mut s = simple();
    s.publish("b", 5, 0, 5..6);
    let receipt = s.receipt_of("a");
    s.receive_with(1, 7..8, &[("b", 1)], std::slice::from_ref(&receipt));
    breaks("H14", &s);
}

#[test]
fn h14_a_receipt_ends_with_the_next_hand_out() {
    let mut s = Script::default();
    s.subscribe(1, 3);
    s.subscribe(2, 3);
    s.publish("a", 5, 0, 0..1);
    let first = s.receive(1, 2..3, &[("a", 1)]).remove(0);
    s.receive(2, 103..104, &[("a", 2)]);
    let mut lost = s.clone();
    s.settle(1, &first, Verdict::Ack, 105..106, Settled::Applied);
    breaks("H14", &s);
    lost.settle(1, &first, Verdict::Ack, 105..106, Settled::LeaseLost);
    good(&lost);
}
