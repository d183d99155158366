//! Retention: which dead letters are kept.

use super::*;

fn die(bench: &mut Bench, text: &'static str) {
    bench.put(text);
    let one = bench.one(A);
    bench.settle(A, one.receipt_parts, Verdict::reject(""));
}

fn left(bench: &mut Bench) -> Vec<String> {
    bench.dead().into_iter().map(|(text, _)| text).collect()
}

#[test]
fn the_oldest_of_too_many_is_dropped_and_counted() {
    let mut bench = Bench::of(QueueSpec::new(QUEUE).dead_max_len(2));
    for text in ["a", "b", "c", "d"] {
        die(&mut bench, text);
    }
    assert_eq!((left(&mut bench), bench.counts[4]), (vec!["c".into(), "d".into()], 2));
}

#[test]
fn one_that_is_too_old_is_dropped_when_somebody_looks() {
    let mut bench = Bench::of(QueueSpec::new(QUEUE).dead_max_age(seconds(10)));
    die(&mut bench, "a");
    bench.pass(4);
    die(&mut bench, "b");
    let id = bench.letters().remove(0).id;
    bench.pass(5);
    assert_eq!((left(&mut bench).len(), bench.counts[4]), (2, 0));
    bench.pass(1);
    assert_eq!((left(&mut bench), bench.counts[4]), (vec!["b".into()], 1));
    assert!(!bench.call(|queue| redrive::redrive(queue, &id)), "it is gone");
    bench.pass(4);
    assert_eq!((bench.counts(), bench.counts[4]), ([0, 0, 0, 0], 2));
}

#[test]
fn the_age_counts_from_the_death_not_from_when_it_was_noticed() {
    let mut bench = Bench::of(QueueSpec::new(QUEUE).dead_max_age(seconds(10)));
    bench.publish(Message::new("x").with_ttl(seconds(1)));
    bench.pass(10);
    assert_eq!(left(&mut bench), ["x"]);
    bench.pass(1);
    assert_eq!(bench.counts(), [0, 0, 0, 0]);
}

#[test]
fn what_is_discarded_redriven_or_purged_is_not_counted_as_dropped() {
    let mut bench = Bench::of(QueueSpec::new(QUEUE).dead_max_len(3).dead_max_age(seconds(9)));
    for text in ["a", "b", "c"] {
        die(&mut bench, text);
    }
    let ids: Vec<DeadId> = bench.letters().into_iter().map(|letter| letter.id).collect();
    assert!(bench.call(|queue| redrive::discard(queue, &ids[0]) && redrive::redrive(queue, &ids[1])));
    assert_eq!(bench.purge_dead(), 1);
    bench.pass(60);
    assert_eq!((bench.counts(), bench.counts[4]), ([1, 0, 0, 0], 0));
}
