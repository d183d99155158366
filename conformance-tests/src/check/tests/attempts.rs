//! H5, H11.

use std::num::NonZeroU32;

use polyqueue::{Settled, Verdict};

use super::script::Script;
use super::{breaks_only, broken, good, ms};

#[test]
fn h5_attempts_are_counted_and_releases_are_not() {
    for (verdict, attempt, rules) in [
        (Verdict::retry(ms(0), "e"), 2, vec![]),
        (Verdict::retry(ms(0), "e"), 1, vec!["H5"]),
        (Verdict::retry(ms(0), "e"), 3, vec!["H5"]),
        (Verdict::Release { after: ms(0) }, 1, vec![]),
        (Verdict::Release { after: ms(0) }, 2, vec!["H5"]),
    ] {
        let mut s = Script::default();
        s.subscribe(1, 9);
        s.publish("a", 5, 0, 0..1);
        let receipt = s.receive(1, 2..3, &[("a", 1)]).remove(0);
        let retries = u32::from(matches!(verdict, Verdict::Retry { .. }));
        s.settle(1, &receipt, verdict, 4..5, Settled::Applied);
        s.receive_again(1, 6..7, "a", attempt, retries, "e");
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h5_a_dropped_receive_may_have_taken_an_attempt() {
    let mut s = Script::default();
    s.subscribe(1, 9);
    s.publish("a", 5, 0, 0..1);
    let mut dropped = s.clone();
    s.receive(1, 200..201, &[("a", 2)]);
    breaks_only("H5", &s);
    dropped.dropped_receive(1, 2);
    dropped.receive(1, 200..201, &[("a", 2)]);
    good(&dropped);
}

#[test]
fn h11_no_attempt_beyond_the_maximum() {
    let mut s = Script::default();
    s.subscribe(1, 1);
    s.publish("a", 5, 0, 0..1);
    let receipt = s.receive(1, 2..3, &[("a", 1)]).remove(0);
    let (mut dies, mut again) = (s.clone(), s.clone());
    dies.settle(1, &receipt, Verdict::retry(ms(0), "e"), 4..5, Settled::Died);
    good(&dies);
    s.settle(1, &receipt, Verdict::retry(ms(0), "e"), 4..5, Settled::Applied);
    breaks_only("H11", &s);
    again.receive(1, 110..111, &[("a", 2)]);
    breaks_only("H11", &again);
}

#[test]
fn h11_no_death_before_the_maximum() {
    let mut s = Script::default();
    s.subscribe(1, 2);
    s.publish("a", 5, 0, 0..1);
    let receipt = s.receive(1, 2..3, &[("a", 1)]).remove(0);
    s.settle(1, &receipt, Verdict::retry(ms(0), "e"), 4..5, Settled::Died);
    breaks_only("H11", &s);
}

#[test]
fn a_message_with_a_maximum_of_its_own_is_judged_by_it() {
    let mut s = Script::default();
    s.subscribe(1, 3);
    s.publish("a", 5, 0, 0..1);
    s.own_max("a", NonZeroU32::MIN);
    let receipt = s.receive(1, 2..3, &[("a", 1)]).remove(0);
    s.settle(1, &receipt, Verdict::retry(ms(0), "e"), 4..5, Settled::Died);
    good(&s);
}
