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
    bench.settle(A, dead.stub, Verdict::reject(""));
    let held = bench.one(A);
    assert_eq!(bench.call(|line| line.purge(Purge::Waiting)), 3);
    assert_eq!(bench.counts(), [0, 0, 1, 1]);
    assert_eq!(bench.settle(A, held.stub, retry(0)), Settled::Applied);
    assert_eq!(bench.call(|line| line.purge(Purge::Dead)), 1);
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
}

#[test]
fn the_oldest_ready_message_has_an_age() {
    let mut bench = Bench::new();
    assert_eq!(bench.call(|line| line.stats()).oldest, None);
    bench.put("first");
    bench.pass(2);
    bench.publish(Message::new("urgent").with_priority(level(10)));
    bench.publish(Message::new("late").with_delay(seconds(1)));
    assert_eq!(bench.call(|line| line.stats()).oldest, Some(seconds(2)));
    bench.take(A, 2);
    bench.pass(3);
    assert_eq!(bench.call(|line| line.stats()).oldest, Some(seconds(2)), "ready since it was due");
}

#[test]
fn a_deleted_queue_tells_everybody() {
    let mut bench = Bench::new();
    bench.put("x");
    let one = bench.one(A);
    let waits = bench.wait(B, 1);
    bench.call(|line| line.delete());
    assert!(matches!(bench.call(|line| line.fetch(waits)), Some(Answer::Deleted)));
    assert_eq!(bench.settle(A, one.stub, Verdict::Ack), Settled::LeaseLost);
    assert_eq!(bench.counts(), [0, 0, 0, 0]);
}
