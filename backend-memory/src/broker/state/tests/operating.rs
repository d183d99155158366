//! What an operator does and sees.

use super::*;

#[test]
fn a_purge_spares_what_is_in_flight_and_the_dead() {
    let mut bench = Bench::new();
    for text in ["dead", "held", "ready", "ready too"] {
        bench.put(text);
    }
    bench.publish(Message::new("delayed").with_delay(seconds(1)));
    let dead = bench.one(A);
    bench.settle(A, dead.receipt_parts, Verdict::reject(""));
    let held = bench.one(A);
    assert_eq!(bench.call(admin::purge_waiting), 3);
    assert_eq!(bench.counts(), [0, 0, 1, 1]);
    assert_eq!(bench.settle(A, held.receipt_parts, retry(0)), Settled::Applied);
    assert_eq!(bench.purge_dead(), 1);
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
}

#[test]
fn the_oldest_ready_message_has_an_age() {
    let mut bench = Bench::new();
    assert_eq!(bench.call(|queue| admin::stats(queue)).oldest, None);
    bench.put("first");
    bench.pass(2);
    bench.publish(Message::new("urgent").with_priority(level(10)));
    bench.publish(Message::new("late").with_delay(seconds(1)));
    assert_eq!(bench.call(|queue| admin::stats(queue)).oldest, Some(seconds(2)));
    bench.take(A, 2);
    bench.pass(3);
    assert_eq!(bench.call(|queue| admin::stats(queue)).oldest, Some(seconds(2)), "ready since it was due");
}

#[test]
fn a_deleted_queue_tells_everybody() {
    let mut bench = Bench::new();
    bench.put("x");
    let one = bench.one(A);
    let waits = bench.wait(B, 1);
    bench.call(admin::delete);
    assert!(bench.fetch(waits).is_none() && bench.queue.is_deleted(), "it looks, and is told");
    assert_eq!(bench.settle(A, one.receipt_parts, Verdict::Ack), Settled::LeaseLost);
    assert_eq!(bench.counts(), [0, 0, 0, 0]);
}
