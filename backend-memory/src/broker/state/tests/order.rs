//! What is handed out first.

use super::*;

#[test]
fn a_batch_is_ordered_by_priority_then_age() {
    let mut bench = Bench::new();
    for (text, priority) in [("c", 2), ("a", 10), ("d", 1), ("b", 9), ("a2", 10)] {
        bench.publish(Message::new(text).with_priority(level(priority)));
    }
    assert_eq!(texts(&bench.take(A, 3)), ["a", "a2", "b"]);
    assert_eq!(texts(&bench.take(A, 9)), ["c", "d"]);
}

#[test]
fn delays_are_independent_and_equal_ones_keep_their_order() {
    let mut bench = Bench::new();
    for (text, delay) in [("ten", 10), ("one", 1), ("three", 3), ("three too", 3)] {
        bench.publish(Message::new(text).with_delay(seconds(delay)));
    }
    assert_eq!(bench.counts(), [0, 4, 0, 0]);
    bench.at(At(999_999_999), |_| ());
    assert!(bench.take(A, 9).is_empty());
    bench.at(At(1_000_000_000), |_| ());
    let one = bench.one(A);
    assert_eq!((texts(&[one])[0], bench.queue.now()), ("one", At(1_000_000_000)));
    bench.pass(2);
    assert_eq!(texts(&bench.take(A, 9)), ["three", "three too"]);
    bench.pass(7);
    let ten = bench.one(B);
    assert_eq!(ten.message.delay(), Duration::ZERO);
}

#[test]
fn what_became_due_first_stands_first_whoever_notices() {
    let mut bench = Bench::new();
    bench.publish(Message::new("due at 2").with_delay(seconds(2)));
    bench.publish(Message::new("due at 1").with_delay(seconds(1)));
    bench.pass(3);
    bench.put("published at 3");
    assert_eq!(texts(&bench.take(A, 9)), ["due at 1", "due at 2", "published at 3"]);
}

#[test]
fn a_lease_ends_behind_those_that_are_ready_then() {
    let mut bench = Bench::new();
    bench.put("held");
    let held = bench.one(A);
    bench.put("before");
    bench.pass(LEASE);
    bench.put("after");
    let again = bench.take(B, 3);
    assert_eq!((texts(&again), again[1].attempt), (vec!["before", "held", "after"], 2));
    assert_ne!(again[1].receipt_parts.token, held.receipt_parts.token);
}

#[test]
fn whatever_brings_a_message_back_keeps_its_priority() {
    let mut bench = Bench::new();
    bench.publish(Message::new("urgent").with_priority(level(9)).with_delay(seconds(1)));
    bench.pass(1);
    let one = bench.one(A);
    bench.settle(A, one.receipt_parts, retry(1));
    bench.pass(1);
    let one = bench.one(A);
    bench.settle(A, one.receipt_parts, Verdict::Release { after: seconds(1) });
    bench.pass(1);
    bench.one(A);
    bench.publish(Message::new("less urgent").with_priority(level(8)));
    bench.pass(LEASE);
    let got = bench.take(B, 2);
    assert_eq!((texts(&got), got[0].attempt), (vec!["urgent", "less urgent"], 3));
}

#[test]
fn what_a_receive_gives_up_goes_back_to_its_place_unburned() {
    let mut bench = Bench::new();
    let (first, second) = (bench.wait(A, 1), bench.wait(A, 1));
    bench.put("x");
    bench.put("y");
    bench.put("z");
    bench.call(|queue| consume::cancel(queue, second));
    bench.call(|queue| consume::cancel(queue, first));
    let got = bench.take(B, 9);
    assert_eq!(texts(&got), ["x", "y", "z"]);
    assert!(got.iter().all(|one| one.attempt == 1));
}
