//! H1, H2, H15, H-DEF.

use polyqueue::{Certainty, Purge, Settled, Verdict};

use super::script::{self, Script};
use super::{breaks_only, broken, good, simple};
use crate::history::Call;

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
