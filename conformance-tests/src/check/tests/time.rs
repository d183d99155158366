//! H4, H7, H18, H20.

use polyqueue::{Purge, Settled, Verdict};

use super::script::{self, Script};
use super::{breaks_only, broken, good, ms};
use crate::history::Call;

#[test]
fn h4_a_delay_is_measured_from_the_begin_of_the_publish() {
    for (ret, rules) in [(109, vec!["H4"]), (110, vec![])] {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.publish("a", 5, 100, 10..30);
        s.receive(1, 40..ret, &[("a", 1)]);
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h7_a_retry_waits() {
    for (ret, rules) in [(53, vec!["H7"]), (54, vec![])] {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.publish("a", 5, 0, 0..1);
        let receipt = s.receive(1, 2..3, &[("a", 1)]).remove(0);
        s.settle(1, &receipt, Verdict::retry(ms(50), "e"), 4..5, Settled::Applied);
        s.receive_again(1, 6..ret, "a", 2, 1, "e");
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h18_nothing_waits_beside_an_idle_receiver() {
    for (ret, rules) in [(54, vec![]), (56, vec!["H18"])] {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.publish("a", 5, 50, 0..0);
        s.receive(1, 10..ret, &[("a", 1)]);
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h18_a_receiver_that_was_busy_is_no_witness() {
    let mut s = Script::default();
    s.subscribe(1, 3);
    s.publish("a", 5, 50, 0..0);
    s.receive(1, 10..20, &[]);
    s.receive(1, 80..80, &[("a", 1)]);
    good(&s);
}

#[test]
fn h18_covers_retries_and_ends_of_leases() {
    let leased = || {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.subscribe(2, 3);
        s.publish("a", 5, 0, 0..0);
        s.receive(1, 2..2, &[("a", 1)]);
        s
    };
    for (ret, rules) in [(102, vec![]), (110, vec!["H18"])] {
        let mut s = leased();
        s.receive(2, 50..ret, &[("a", 2)]);
        assert_eq!(broken(&s), rules);
    }
    for (ret, rules) in [(54, vec![]), (60, vec!["H18"])] {
        let mut s = leased();
        let receipt = s.receipt_of("a");
        s.settle(1, &receipt, Verdict::retry(ms(50), "e"), 4..4, Settled::Applied);
        s.receive_again(2, 50..ret, "a", 2, 1, "e");
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h20_nothing_is_stuck_beside_an_idle_receiver() {
    let mut s = Script::default();
    s.subscribe(1, 3);
    s.publish("a", 5, 50, 0..0);
    let (mut busy, mut purged) = (s.clone(), s.clone());
    s.receive(1, 10..80, &[]);
    breaks_only("H20", &s);
    busy.receive(1, 10..40, &[]);
    good(&busy);
    purged.call(60..61, Call::Purge { queue: script::queue(), what: Purge::Waiting, answer: Some(Ok(1)) });
    purged.receive(1, 10..80, &[]);
    good(&purged);
}

#[test]
fn h20_a_receive_is_not_blind() {
    let mut s = Script::default();
    s.subscribe(1, 3);
    s.publish("a", 5, 0, 0..1);
    let mut racing = s.clone();
    s.receive(1, 2..2, &[]);
    breaks_only("H20", &s);
    racing.subscribe(2, 3);
    racing.receive(2, 2..5, &[("a", 1)]);
    racing.receive(1, 3..4, &[]);
    good(&racing);
}
