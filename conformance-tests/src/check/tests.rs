//! Each rule against a history that breaks it, and a close one that does not.

mod script;

use std::num::NonZeroU32;
use std::time::Duration;

use polyqueue::{Certainty, DeadReason, Extended, Purge, Settled, Verdict};

use self::script::{LEASE, Script, letter};
use super::{Bounds, all};
use crate::history::Call;

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

#[test]
fn h1_a_stored_message_that_never_comes_out_is_lost() {
    let mut s = simple();
    s.publish("b", 5, 0, 5..6);
    let mut drained = s.clone();
    drained.drained(7);
    breaks_only("H1", &drained);
    let mut purged = s.clone();
    purged.call(6..7, Call::Purge { queue: script::queue(), what: Purge::Waiting, answer: Some(Ok(1)) });
    purged.drained(8);
    good(&purged);
    good(&s);
}

#[test]
fn h2_a_message_that_came_out_must_be_brought_to_its_end() {
    let mut s = simple();
    s.publish("b", 5, 0, 5..6);
    let receipt = s.receive(1, 7..8, &[("b", 1)]).remove(0);
    let mut open = s.clone();
    open.drained(20);
    breaks_only("H2", &open);
    s.settle(1, &receipt, Verdict::reject("no"), 9..10, Settled::Died);
    s.drained(20);
    good(&s);
}

#[test]
fn h15_nothing_comes_that_nobody_sent() {
    let mut s = simple();
    s.receive(1, 6..7, &[("ghost", 1)]);
    breaks_only("H15", &s);
    s.outsiders = true;
    good(&s);
}

#[test]
fn h15_what_was_deleted_with_its_queue_stays_away() {
    let mut s = Script::default();
    s.subscribe(1, 3);
    s.publish("old", 5, 0, 0..1);
    s.call(2..3, Call::Delete { queue: script::queue(), answer: Some(Ok(())) });
    let mut new = s.clone();
    s.receive(1, 4..5, &[("old", 1)]);
    breaks_only("H15", &s);
    new.publish("new", 5, 0, 3..4);
    new.receive(1, 5..6, &[("new", 1)]);
    good(&new);
}

#[test]
fn h_def_what_failed_for_certain_never_comes_and_what_is_unknown_may() {
    for (certainty, rules) in [(Certainty::Definite, vec!["H-DEF"]), (Certainty::Unknown, vec![])] {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.publish_answered("a", 5, 0, 0..1, Err(certainty));
        s.receive(1, 2..3, &[("a", 1)]);
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h3_an_acked_message_is_no_dead_letter() {
    let mut s = simple();
    let mut before = s.clone();
    s.dead(6..7, &[letter("a", DeadReason::MaxAttempts, 3)]);
    breaks("H3", &s);
    before.publish("b", 5, 0, 5..6);
    let receipt = before.receive(1, 7..8, &[("b", 1)]).remove(0);
    before.settle(1, &receipt, Verdict::reject("no"), 9..10, Settled::Died);
    before.dead(11..12, &[script::letter_of("b", DeadReason::Rejected, 1, "no")]);
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
    s.dead(6..7, &[script::letter_of("a", DeadReason::Rejected, 1, "no")]);
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
    for (letter, rules) in [
        (script::letter_of("a", DeadReason::Rejected, 1, "no"), vec![]),
        (script::letter_of("a", DeadReason::Rejected, 1, "yes"), vec!["H12"]),
        (script::letter_of("a", DeadReason::Rejected, 2, "no"), vec!["H12"]),
        (script::letter_of("a", DeadReason::MaxAttempts, 1, "no"), vec!["H12"]),
    ] {
        let mut s = died();
        s.dead(6..7, &[letter]);
        assert_eq!(broken(&s), rules);
    }
}

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
    let held = || {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.subscribe(2, 3);
        s.publish("a", 5, 0, 0..0);
        s.receive(1, 2..2, &[("a", 1)]);
        s
    };
    for (ret, rules) in [(102, vec![]), (110, vec!["H18"])] {
        let mut s = held();
        s.receive(2, 50..ret, &[("a", 2)]);
        assert_eq!(broken(&s), rules);
    }
    for (ret, rules) in [(54, vec![]), (60, vec!["H18"])] {
        let mut s = held();
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
