//! Bounds: what becomes of a publish to a queue that is full.

use super::*;

fn bounded(max: u64, overflow: Overflow) -> Bench {
    Bench::of(QueueSpec::new(QUEUE).bound(max, overflow))
}

#[test]
fn a_full_queue_refuses_and_says_its_limit() {
    let mut bench = bounded(2, Overflow::Reject);
    bench.put("x");
    bench.put("y");
    let refused = bench.offer(Message::new("z"));
    let Admission::Full(Error::Full { what, limit: 2 }) = refused else { panic!("{refused:?}") };
    assert_eq!(what, "queue q");
    bench.one(A);
    assert!(matches!(bench.offer(Message::new("z")), Admission::Open), "what is in in_flight takes no room");
}

#[test]
fn only_an_undelayed_publish_is_held_back() {
    let mut bench = bounded(1, Overflow::Reject);
    bench.put("x");
    assert!(matches!(bench.offer(Message::new("due").with_delay(seconds(1))), Admission::Open));
    bench.pass(1);
    assert_eq!(bench.counts(), [2, 0, 0, 0], "what is due always enters");
    let held = bench.take(A, 2);
    bench.put("y");
    bench.settle(A, held[0].receipt_parts, retry(0));
    bench.settle(A, held[1].receipt_parts, Verdict::Release { after: Duration::ZERO });
    assert_eq!(bench.counts(), [3, 0, 0, 0], "so does what comes back");
}

#[test]
fn those_who_wait_make_room_within_a_batch() {
    let mut bench = bounded(1, Overflow::Reject);
    let waiter = bench.wait(A, 9);
    let open = bench.call(|queue| {
        ["x", "y", "z"].map(|text| {
            let open = matches!(publish::look(queue, &Message::new(text)), Admission::Open);
            if open {
                publish::enter(queue, item(Message::new(text)));
            }
            open
        })
    });
    assert_eq!((open, texts(&bench.fetch(waiter).unwrap())), ([true, true, false], vec!["x"]));
}

#[test]
fn the_oldest_of_the_lowest_priority_makes_room() {
    let mut bench = bounded(3, Overflow::DropOldest);
    for (text, priority) in [("high", 9), ("low", 2), ("low too", 2)] {
        bench.publish(Message::new(text).with_priority(level(priority)));
    }
    assert!(matches!(bench.offer(Message::new("new")), Admission::Open));
    let letter = bench.letters().remove(0);
    assert_eq!(
        (letter.reason, &*letter.error, letter.attempts),
        (DeadReason::Overflow, "dropped to make room", 0)
    );
    assert_eq!(letter.message().unwrap().payload(), "low");
    bench.publish(Message::new("lowest").with_priority(level(1)));
    assert_eq!(bench.dead()[1], ("lowest".into(), DeadReason::Overflow), "it makes room itself");
    assert_eq!(texts(&bench.take(A, 9)), ["high", "new", "low too"]);
    assert_eq!(bench.counts, [5, 0, 0, 2, 0]);
}

#[test]
fn nobody_makes_room_for_what_is_taken_at_once() {
    let mut bench = bounded(1, Overflow::DropOldest);
    bench.put("ready");
    bench.one(A);
    let waiter = bench.wait(A, 1);
    bench.publish_all(["x", "y"].map(Message::new));
    assert_eq!(texts(&bench.fetch(waiter).unwrap()), ["x"]);
    assert_eq!(bench.counts(), [1, 0, 2, 0]);
}

#[test]
fn as_many_publishes_are_woken_as_there_is_room_for() {
    let mut bench = bounded(2, Overflow::Block);
    bench.put("x");
    bench.put("y");
    assert!(matches!(bench.offer(Message::new("z")), Admission::Wait));
    let [first, second, third] = [(); 3].map(|()| {
        let waiter = WaiterId::next();
        assert_eq!(bench.call(|queue| queue.await_room(waiter)), None);
        waiter
    });
    assert!(bench.woken.is_empty());
    bench.one(A);
    assert_eq!(std::mem::take(&mut bench.woken), [first]);
    bench.call(|queue| queue.stop_awaiting(first));
    assert_eq!(std::mem::take(&mut bench.woken), [second], "the room is still there");
    bench.call(admin::purge_waiting);
    assert_eq!(bench.woken, [second, third]);
}

#[test]
fn a_publish_that_waits_knows_when_something_expires() {
    let mut bench = bounded(1, Overflow::Block);
    bench.publish(Message::new("x").with_ttl(seconds(9)));
    let waiter = WaiterId::next();
    assert_eq!(bench.call(|queue| queue.await_room(waiter)), Some(At(9_000_000_000)));
    bench.publish(Message::new("y").with_ttl(seconds(4)).with_delay(seconds(1)));
    assert_eq!(std::mem::take(&mut bench.woken), [waiter], "its timer is too late");
    assert_eq!(bench.call(|queue| queue.await_room(waiter)), Some(At(4_000_000_000)));
    bench.call(admin::delete);
    assert_eq!(bench.woken, [waiter], "to be told that the queue is gone");
}
