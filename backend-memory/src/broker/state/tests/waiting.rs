//! Receives that wait.

use super::*;

#[test]
fn those_who_wait_are_served_oldest_first() {
    let mut bench = Bench::new();
    let (first, second) = (bench.wait(A, 1), bench.wait(B, 1));
    bench.put("x");
    assert_eq!(bench.woken, [first, second], "the second keeps the time now");
    assert!(bench.take(B, 1).is_empty(), "it is handed to the first already");
    assert!(bench.fetch(second).is_none());
    assert_eq!(texts(&bench.fetch(first).unwrap()), ["x"]);
    bench.put("y");
    assert_eq!(texts(&bench.fetch(second).unwrap()), ["y"]);
}

#[test]
fn a_batch_that_is_published_at_once_is_brought_at_once() {
    let mut bench = Bench::new();
    let waiter = bench.wait(A, 2);
    bench.publish_all(["x", "y", "z"].map(Message::new));
    assert_eq!(texts(&bench.fetch(waiter).unwrap()), ["x", "y"]);
    assert_eq!(bench.counts(), [1, 0, 2, 0]);
}

#[test]
fn what_a_receive_gives_up_serves_the_next_who_waits() {
    let mut bench = Bench::new();
    let (first, second) = (bench.wait(A, 1), bench.wait(B, 1));
    bench.put("x");
    bench.woken.clear();
    bench.call(|queue| consume::cancel(queue, first));
    assert_eq!(bench.woken, [second]);
    assert_eq!(bench.fetch(second).unwrap()[0].attempt, 1);
}

#[test]
fn the_oldest_receive_keeps_the_time_and_hands_it_on() {
    let mut bench = Bench::new();
    let (first, second) = (bench.wait(A, 1), bench.wait(B, 1));
    assert_eq!(bench.call(|queue| consume::keep_time(queue, first)), None, "nothing is due");
    bench.publish(Message::new("x").with_delay(seconds(9)));
    assert_eq!(std::mem::take(&mut bench.woken), [first]);
    assert_eq!(bench.call(|queue| consume::keep_time(queue, first)), Some(At(9_000_000_000)));
    assert_eq!(bench.call(|queue| consume::keep_time(queue, second)), None);
    bench.publish(Message::new("y").with_delay(seconds(10)));
    assert!(bench.woken.is_empty(), "its timer is early enough");
    bench.publish(Message::new("z").with_delay(seconds(3)));
    assert_eq!(std::mem::take(&mut bench.woken), [first], "its timer is too late");
    bench.call(|queue| consume::cancel(queue, first));
    assert_eq!(bench.woken, [second]);
    assert_eq!(bench.call(|queue| consume::keep_time(queue, second)), Some(At(3_000_000_000)));
}

#[test]
fn a_consumer_never_holds_more_than_its_prefetch() {
    let mut bench = Bench::new();
    let c = ConsumerId(3);
    bench.join(c, terms().prefetch(2));
    for text in ["w", "x", "y", "z"] {
        bench.put(text);
    }
    let held = bench.take(c, 9);
    assert_eq!(texts(&held), ["w", "x"]);
    let full = bench.wait(c, 9);
    let other = bench.wait_or_take(A);
    assert_eq!(texts(&other), ["y"], "a full consumer holds up nobody");
    assert!(bench.fetch(full).is_none());
    bench.settle(c, held[0].receipt_parts, Verdict::Ack);
    assert_eq!(texts(&bench.fetch(full).unwrap()), ["z"]);
    bench.put("again");
    let full = bench.wait(c, 1);
    bench.pass(LEASE);
    assert_eq!(bench.fetch(full).unwrap().len(), 1, "the end of a lease makes room too");
}

#[test]
fn a_closed_consumer_gets_nothing_but_may_still_settle() {
    let mut bench = Bench::new();
    bench.put("x");
    let one = bench.one(A);
    let waits = bench.wait(A, 1);
    bench.call(|queue| consume::close_consumer(queue, A));
    assert!(bench.fetch(waits).unwrap().is_empty());
    bench.put("y");
    assert!(bench.wait_or_take(A).is_empty());
    assert_eq!(bench.settle(A, one.receipt_parts, RETRY), Settled::Applied);
    assert_eq!(bench.counts(), [2, 0, 0, 0]);
}
