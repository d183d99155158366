//! H16, H17.

use super::script::Script;
use super::{breaks_only, broken, good};

#[test]
fn h16_the_most_urgent_first() {
    let published = || {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.publish("low", 1, 0, 0..1);
        s.publish("high", 9, 0, 2..4);
        s
    };
    for (inv, rules) in [(3, vec![]), (5, vec!["H16"])] {
        let mut s = published();
        s.receive(1, inv..6, &[("low", 1)]);
        s.receive(1, 7..8, &[("high", 1)]);
        assert_eq!(broken(&s), rules);
    }
    let mut meanwhile = published();
    meanwhile.subscribe(2, 3);
    meanwhile.receive(2, 5..9, &[("high", 1)]);
    meanwhile.receive(1, 6..8, &[("low", 1)]);
    good(&meanwhile);
}

#[test]
fn h16_holds_inside_one_call_and_beside_messages_that_never_came() {
    let mut s = Script::default();
    s.subscribe(1, 3);
    s.publish("low", 1, 0, 0..1);
    s.publish("high", 9, 0, 2..3);
    let (mut never, mut parked) = (s.clone(), s.clone());
    s.receive(1, 5..6, &[("low", 1), ("high", 1)]);
    breaks_only("H16", &s);
    never.receive(1, 5..6, &[("low", 1)]);
    breaks_only("H16", &never);
    parked.subscribe_parking(2, 10);
    parked.receive(1, 5..6, &[("low", 1)]);
    good(&parked);
}

#[test]
fn h16_a_delayed_message_outranks_once_it_is_surely_due() {
    for (inv, rules) in [(51, vec![]), (60, vec!["H16"])] {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.publish("low", 1, 0, 0..1);
        s.publish("high", 9, 50, 0..1);
        s.receive(1, inv..inv, &[("low", 1)]);
        s.receive(1, inv + 1..inv + 1, &[("high", 1)]);
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h17_first_in_first_out() {
    for (second, rules) in [(2..3, vec!["H17"]), (0..3, vec![])] {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.publish("first", 5, 0, 0..1);
        s.publish("second", 5, 0, second);
        s.receive(1, 4..5, &[("second", 1)]);
        s.receive(1, 6..7, &[("first", 1)]);
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h17_holds_inside_a_batch_and_inside_a_call() {
    let published = || {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.publish_batch(&["first", "second"], 0..1);
        s
    };
    let mut right = published();
    right.receive(1, 2..3, &[("first", 1), ("second", 1)]);
    good(&right);
    let mut in_call = published();
    in_call.receive(1, 2..3, &[("second", 1), ("first", 1)]);
    breaks_only("H17", &in_call);
    let mut in_batch = published();
    in_batch.receive(1, 2..3, &[("second", 1)]);
    in_batch.receive(1, 4..5, &[("first", 1)]);
    breaks_only("H17", &in_batch);
}
