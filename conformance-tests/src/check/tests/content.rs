//! H6, H12.

use polyqueue::{DeadReason, Settled, Verdict};

use super::script::{self, Script};
use super::{breaks_only, broken, ms};

#[test]
fn h6_a_message_comes_as_it_was_sent() {
    let mut s = Script::default();
    s.subscribe(1, 3);
    s.publish("a", 5, 0, 0..1);
    s.receive_changed(1, 2..3, "a", |handout| {
        let mut changed = (*handout.envelope).clone();
        changed.payload_hash ^= 1;
        handout.envelope = changed.into();
    });
    breaks_only("H6", &s);
}

#[test]
fn h6_the_senders_clock_is_filled_in_once() {
    for (second, rules) in [(7, vec![]), (8, vec!["H6"])] {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.publish("a", 5, 0, 0..1);
        for (inv, attempt, time) in [(2, 1, 7), (103, 2, second)] {
            s.receive_changed(1, inv..inv + 1, "a", |handout| {
                let mut changed = (*handout.envelope).clone();
                changed.published_ms = Some(time);
                handout.envelope = changed.into();
                handout.attempt = attempt;
            });
        }
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h6_retries_and_last_error_are_what_the_retries_were() {
    for (retries, error, rules) in [(1, "e", vec![]), (0, "e", vec!["H6"]), (1, "", vec!["H6"])] {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.publish("a", 5, 0, 0..1);
        let receipt = s.receive(1, 2..3, &[("a", 1)]).remove(0);
        s.settle(1, &receipt, Verdict::retry(ms(0), "e"), 4..5, Settled::Applied);
        s.receive_again(1, 6..7, "a", 2, retries, error);
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h12_a_dead_letter_says_why() {
    let died = || {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.publish("a", 5, 0, 0..1);
        let receipt = s.receive(1, 2..3, &[("a", 1)]).remove(0);
        s.settle(1, &receipt, Verdict::reject("no"), 4..5, Settled::Died);
        s
    };
    for (dead_letter, rules) in [
        (script::dead_letter_of("a", DeadReason::Rejected, 1, "no"), vec![]),
        (script::dead_letter_of("a", DeadReason::Rejected, 1, "yes"), vec!["H12"]),
        (script::dead_letter_of("a", DeadReason::Rejected, 2, "no"), vec!["H12"]),
        (script::dead_letter_of("a", DeadReason::MaxAttempts, 1, "no"), vec!["H12"]),
    ] {
        let mut s = died();
        s.dead(6..7, &[dead_letter]);
        assert_eq!(broken(&s), rules);
    }
}
