//! However much there is to do, no call does more than some of it at once.

use super::super::steps::MOST;
use super::*;

const MANY: usize = 20_000;
const VERY_MANY: usize = 200_000;

/// So many messages, each as it is made by its number.
fn filled(spec: QueueSpec, make: impl Fn(usize) -> Message) -> Bench {
    filled_with(MANY, spec, make)
}

fn filled_with(many: usize, spec: QueueSpec, make: impl Fn(usize) -> Message) -> Bench {
    let mut bench = Bench::of(spec);
    for first in (0..many).step_by(MOST / 2) {
        bench.publish_all((first..first + MOST / 2).map(&make));
    }
    (bench.most_steps, bench.holds) = (0, 0);
    bench
}

/// Spread over an hour from the second one on.
fn spread(number: usize) -> Duration {
    let millis = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 42;
    seconds(3_600) + Duration::from_millis(millis)
}

#[track_caller]
fn is_done_in_parts(bench: &Bench) {
    assert!(bench.most_steps <= MOST, "{} steps under one lock", bench.most_steps);
    assert!(bench.holds >= MANY / MOST, "in {} parts", bench.holds);
}

#[test]
fn all_that_is_due_at_once_comes_before_anything_lower() {
    let mut bench = filled_with(VERY_MANY, QueueSpec::new(QUEUE), |number| {
        let priority = level(if number + 1 == VERY_MANY { 10 } else { 3 });
        Message::new("late").with_delay(spread(number)).with_priority(priority)
    });
    bench.put("lower");
    bench.pass(9_000);
    assert_eq!(bench.one(A).message.priority(), level(10));
    assert_eq!(bench.counts(), [VERY_MANY as u64, 0, 1, 0]);
    is_done_in_parts(&bench);
}

#[test]
fn one_that_waits_is_served_when_all_is_applied() {
    let mut bench = filled(QueueSpec::new(QUEUE), |number| {
        Message::new("late").with_delay(seconds(1)).with_priority(level(if number + 1 == MANY {
            9
        } else {
            8
        }))
    });
    let waits = bench.wait(A, 1);
    let now = bench.queue.now().plus(seconds(1));
    due::advance(&mut bench.queue, now, 1);
    assert!(!bench.queue.is_caught_up() && consume::fetch(&mut bench.queue, waits).is_none());
    assert_eq!(consume::keep_time(&mut bench.queue, waits), Some(now), "it goes on at once");
    bench.leave();
    assert_eq!(bench.fetch(waits).unwrap()[0].message.priority(), level(9));
    is_done_in_parts(&bench);
}

#[test]
fn what_expires_in_any_order_dies_in_parts() {
    let mut bench =
        filled_with(VERY_MANY, QueueSpec::new(QUEUE), |number| Message::new("x").with_ttl(spread(number)));
    bench.pass(9_000);
    assert_eq!(bench.counts(), [0, 0, 0, VERY_MANY as u64]);
    is_done_in_parts(&bench);
    bench.holds = 0;
    assert_eq!((bench.purge_dead(), bench.counts()), (VERY_MANY as u64, [0; 4]));
    is_done_in_parts(&bench);
}

#[test]
fn leases_end_in_parts() {
    let mut bench = filled(QueueSpec::new(QUEUE), |_| Message::new("x"));
    while !bench.take(A, usize::MAX).is_empty() {}
    bench.holds = 0;
    bench.pass(LEASE);
    assert_eq!(bench.counts(), [MANY as u64, 0, 0, 0]);
    is_done_in_parts(&bench);
}

#[test]
fn a_purge_is_whole_and_lets_go_in_parts() {
    let spec = QueueSpec::new(QUEUE).dedup(Dedup::window(seconds(60)));
    let mut bench = filled(spec, |number| {
        let message = Message::new("x").with_dedup_key(number.to_string()).with_ttl(seconds(100));
        message.with_delay(seconds(if number % 2 == 0 { 0 } else { 50 }))
    });
    assert_eq!(bench.call(admin::purge_waiting), MANY as u64);
    assert_eq!(bench.counts(), [0; 4]);
    is_done_in_parts(&bench);
    assert!(matches!(bench.offer(Message::new("x").with_dedup_key("7")), Admission::Open), "its key is free");
}

#[test]
fn a_deleted_queue_lets_go_in_parts() {
    let spec = QueueSpec::new(QUEUE).dedup(Dedup::window(seconds(60)));
    let mut bench = filled(spec, |number| Message::new("x").with_dedup_key(number.to_string()));
    for _ in 0..MANY / MOST {
        let dies = bench.one(A);
        bench.settle(A, dies.receipt_parts, Verdict::reject(""));
        bench.take(A, 99);
    }
    bench.holds = 0;
    bench.call(admin::delete);
    assert_eq!(bench.counts(), [0; 4]);
    is_done_in_parts(&bench);
}

#[test]
fn many_of_one_id_are_rescheduled_once_each_in_parts() {
    let id = MessageId::new("same").unwrap();
    let mut bench = filled(QueueSpec::new(QUEUE), |number| {
        Message::new("x").with_id(id.clone()).with_delay(spread(number))
    });
    for (to, left) in [(Reschedule::After(seconds(1_800)), MANY as u64), (Reschedule::Cancel, 0)] {
        bench.holds = 0;
        assert!(bench.reschedule(id.as_str(), to));
        assert_eq!(bench.counts(), [0, left, 0, 0]);
        is_done_in_parts(&bench);
    }
}

#[test]
fn a_crowd_that_waits_is_served_in_parts_the_oldest_first() {
    let mut bench = Bench::new();
    let waiters: Vec<_> = (0..2_000).map(|_| bench.wait(A, 1)).collect();
    bench.publish_all((0..3_000).map(|_| Message::new("x").with_delay(seconds(1))).take(400));
    bench.pass(1);
    let served = waiters.iter().filter(|waiter| bench.fetch(**waiter).is_some()).count();
    assert_eq!(served, 400);
    bench.in_parts(|queue| consume::close_consumer(queue, A));
    assert!(waiters[400..].iter().all(|waiter| bench.fetch(*waiter).is_some_and(|handed| handed.is_empty())));
    assert!(bench.most_steps <= MOST, "{}", bench.most_steps);
}
