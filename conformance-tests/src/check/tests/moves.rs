//! H4 where the time of a message was changed, and what that excuses.

use polyqueue::Reschedule;

use super::script::Script;
use super::{broken, good, ms};

fn delayed() -> Script {
    let mut s = Script::default();
    s.subscribe(1, 3);
    s.publish("a", 5, 100, 0..1);
    s
}

#[test]
fn h4_the_new_time_counts() {
    for (after, ret, rules) in
        [(10, 11, vec!["H4"]), (10, 12, vec![]), (200, 150, vec!["H4"]), (200, 202, vec![])]
    {
        let mut s = delayed();
        s.reschedule("a", Reschedule::After(ms(after)), 2..3, true);
        s.receive(1, ret..ret, &[("a", 1)]);
        assert_eq!(broken(&s), rules, "{after} {ret}");
    }
}

#[test]
fn h4_what_moved_nothing_changes_nothing() {
    let mut s = delayed();
    s.reschedule("a", Reschedule::After(ms(10)), 2..3, false);
    s.receive(1, 50..50, &[("a", 1)]);
    assert_eq!(broken(&s), ["H4"]);
}

#[test]
fn h4_what_was_cancelled_never_comes_and_is_not_missed() {
    let mut s = delayed();
    s.reschedule("a", Reschedule::Cancel, 2..3, true);
    let mut missed = s.clone();
    s.receive(1, 300..300, &[("a", 1)]);
    assert_eq!(broken(&s), ["H4"]);
    missed.receive(1, 90..300, &[]);
    missed.drained(301);
    good(&missed);
}
