//! H21, and what a time to live and a bound excuse.

use polyqueue::{DeadReason, Message, Overflow, QueueSpec, Settled, Verdict};

use super::script::{Script, dead_letter_of, message, queue};
use super::{broken, good, ms};

fn mortal() -> Message {
    message("a").with_ttl(ms(50))
}

#[test]
fn h21_nothing_is_handed_out_after_its_time() {
    for (ret, rules) in [(51, vec![]), (52, vec!["H21"])] {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.store(queue(), mortal(), 0..1);
        s.receive(1, ret..ret, &[("a", 1)]);
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h21_nothing_expires_before_its_time() {
    for (listed, rules) in [(48..49, vec!["H12", "H21"]), (49..50, vec![])] {
        let mut s = Script::default();
        s.store(queue(), mortal(), 0..1);
        s.dead(listed, &[dead_letter_of("a", DeadReason::Expired, 0, "expired")]);
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h21_a_redriven_message_lives_anew() {
    let mut s = Script::default();
    s.subscribe(1, 3);
    s.store(queue(), mortal(), 0..1);
    s.dead(60..61, &[dead_letter_of("a", DeadReason::Expired, 0, "expired")]);
    s.redrive("a", 62..63);
    s.receive(1, 70..71, &[("a", 1)]);
    good(&s);
}

#[test]
fn a_retry_past_the_end_may_be_the_death_of_it() {
    for (at, rules) in [(40, vec!["H11"]), (60, vec![])] {
        let mut s = Script::default();
        s.subscribe(1, 3);
        s.store(queue(), mortal(), 0..1);
        let receipt = s.receive(1, 2..3, &[("a", 1)]).remove(0);
        s.settle(1, &receipt, Verdict::retry(ms(0), "e"), at..at + 1, Settled::Died);
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn what_expired_or_made_room_is_neither_lost_nor_stuck() {
    for (spec, message, rules) in [
        (QueueSpec::new(queue()), mortal(), vec![]),
        (QueueSpec::new(queue()).bound(1, Overflow::DropOldest), message("a"), vec![]),
        (QueueSpec::new(queue()).bound(1, Overflow::Reject), message("a"), vec!["H1", "H20"]),
    ] {
        let mut s = Script::default();
        s.declare(spec, 0..0);
        s.subscribe(1, 3);
        s.store(queue(), message, 0..1);
        s.receive(1, 60..70, &[]);
        s.drained(80);
        assert_eq!(broken(&s), rules);
    }
}

#[test]
fn h12_nothing_makes_room_where_nothing_must() {
    for (overflow, rules) in [(Overflow::DropOldest, vec![]), (Overflow::Reject, vec!["H12"])] {
        let mut s = Script::default();
        s.declare(QueueSpec::new(queue()).bound(1, overflow), 0..0);
        s.store(queue(), message("a"), 0..1);
        s.dead(2..3, &[dead_letter_of("a", DeadReason::Overflow, 0, "dropped to make room")]);
        assert_eq!(broken(&s), rules);
    }
}
