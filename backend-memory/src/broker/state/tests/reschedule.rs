//! Rescheduling: only what waits for its time is found.

use super::*;

fn named(id: &'static str) -> Message {
    Message::new(id).with_id(MessageId::new(id).unwrap())
}

#[test]
fn a_cancelled_message_is_gone_for_good() {
    let mut bench = Bench::new();
    bench.publish(named("x").with_delay(seconds(1)).with_ttl(seconds(2)));
    bench.publish(named("y").with_delay(seconds(1)));
    assert!(bench.reschedule("x", Reschedule::Cancel));
    assert!(!bench.reschedule("x", Reschedule::Cancel));
    bench.pass(9);
    assert_eq!((texts(&bench.take(A, 9)), bench.counts()), (vec!["y"], [0, 0, 1, 0]));
}

#[test]
fn a_new_time_counts_from_now() {
    let mut bench = Bench::new();
    bench.publish(named("x").with_delay(seconds(60)));
    bench.pass(10);
    assert!(bench.reschedule("x", Reschedule::After(seconds(5))));
    bench.pass(4);
    assert_eq!(bench.counts(), [0, 1, 0, 0]);
    bench.pass(1);
    let one = bench.one(A);
    bench.settle(A, one.receipt_parts, retry(60));
    assert!(bench.reschedule("x", Reschedule::After(seconds(1))), "it waits for its retry");
    bench.pass(1);
    assert_eq!(bench.one(A).attempt, 2);
}

#[test]
fn what_does_not_wait_for_its_time_is_not_found() {
    let mut bench = Bench::new();
    bench.publish(named("held"));
    bench.one(A);
    bench.publish(named("ready"));
    for id in ["held", "ready", "unknown"] {
        assert!(!bench.reschedule(id, Reschedule::Cancel), "{id}");
    }
    assert_eq!(bench.counts(), [1, 0, 1, 0]);
}

#[test]
fn one_that_is_made_ready_serves_those_who_wait() {
    let mut bench = Bench::new();
    let waits = bench.wait(A, 1);
    bench.publish(named("x").with_delay(seconds(60)));
    assert!(bench.reschedule("x", Reschedule::After(Duration::ZERO)));
    assert_eq!(texts(&bench.fetch(waits).unwrap()), ["x"]);
}

#[test]
fn a_time_beyond_its_life_is_a_death() {
    let mut bench = Bench::new();
    bench.publish(named("x").with_delay(seconds(1)).with_ttl(seconds(5)));
    bench.reschedule("x", Reschedule::After(seconds(60)));
    bench.pass(5);
    assert_eq!(bench.dead(), [("x".into(), DeadReason::Expired)]);
}
