//! Dedup keys: how long they are taken.

use super::*;

const WINDOW: u64 = 60;

fn keeping(dedup: fn(Duration) -> Dedup) -> Bench {
    Bench::of(QueueSpec::new(QUEUE).dedup(dedup(seconds(WINDOW))))
}

fn keyed(text: &'static str) -> Message {
    Message::new(text).with_dedup_key("k")
}

/// Whether the key is taken.
fn taken(bench: &mut Bench) -> bool {
    matches!(bench.call(|queue| publish::look(queue, &keyed("another"))), Admission::Duplicate(_))
}

#[test]
fn the_second_is_a_duplicate_of_the_first_until_the_window_ends() {
    let mut bench = keeping(Dedup::window);
    let first = keyed("first");
    let id = first.id().clone();
    assert!(matches!(bench.offer(first), Admission::Open));
    assert!(matches!(bench.offer(keyed("second")), Admission::Duplicate(of) if of == id));
    assert!(matches!(bench.offer(Message::new("other").with_dedup_key("other")), Admission::Open));
    assert!(matches!(bench.offer(Message::new("none")), Admission::Open));
    bench.at(At(WINDOW * 1_000_000_000 - 1), |_| ());
    assert!(taken(&mut bench));
    bench.at(At(WINDOW * 1_000_000_000), |_| ());
    assert!(matches!(bench.offer(keyed("third")), Admission::Open));
}

#[test]
fn an_ack_frees_it_only_where_the_queue_says_so() {
    for (dedup, free) in [(Dedup::window as fn(_) -> _, false), (Dedup::until_ack, true)] {
        let mut bench = keeping(dedup);
        bench.offer(keyed("x"));
        let one = bench.one(A);
        bench.settle(A, one.receipt_parts, Verdict::Ack);
        assert_eq!(taken(&mut bench), !free);
    }
}

#[test]
fn what_comes_back_keeps_it_and_a_delay_has_it_from_the_publish() {
    let mut bench = keeping(Dedup::until_ack);
    bench.offer(keyed("x").with_delay(seconds(1)));
    assert!(taken(&mut bench));
    bench.pass(1);
    for verdict in [retry(1), Verdict::Release { after: seconds(1) }] {
        let one = bench.one(A);
        bench.settle(A, one.receipt_parts, verdict);
        assert!(taken(&mut bench));
        bench.pass(1);
    }
    bench.one(A);
    bench.pass(LEASE);
    assert_eq!((taken(&mut bench), bench.counts()), (true, [1, 0, 0, 0]));
}

#[test]
fn every_death_frees_it() {
    let reject: fn(&mut Bench) = |bench| {
        let one = bench.one(A);
        bench.settle(A, one.receipt_parts, Verdict::reject("no"));
    };
    let last_lease: fn(&mut Bench) = |bench| {
        for _ in 0..3 {
            bench.one(A);
            bench.pass(LEASE);
        }
    };
    let expiry: fn(&mut Bench) = |bench| bench.pass(50);
    for die in [reject, last_lease, expiry] {
        let mut bench = keeping(Dedup::window);
        bench.offer(keyed("x").with_ttl(seconds(50)));
        die(&mut bench);
        assert_eq!((bench.counts()[3], taken(&mut bench)), (1, false));
    }
}

#[test]
fn purge_cancel_and_deletion_free_it() {
    let purge: fn(&mut Bench) = |bench| assert_eq!(bench.call(admin::purge_waiting), 1);
    let cancel: fn(&mut Bench) = |bench| assert!(bench.reschedule("x", Reschedule::Cancel));
    let delete: fn(&mut Bench) = |bench| bench.call(admin::delete);
    for remove in [purge, cancel, delete] {
        let mut bench = keeping(Dedup::window);
        bench.offer(keyed("x").with_id(MessageId::new("x").unwrap()).with_delay(seconds(9)));
        remove(&mut bench);
        assert!(!taken(&mut bench));
    }
}

#[test]
fn a_redriven_message_neither_takes_the_key_nor_frees_anothers() {
    let mut bench = keeping(Dedup::until_ack);
    bench.offer(keyed("first"));
    let one = bench.one(A);
    bench.settle(A, one.receipt_parts, Verdict::reject(""));
    let id = bench.letters().remove(0).id;
    bench.call(|queue| redrive::redrive(queue, &id));
    assert!(!taken(&mut bench));
    bench.offer(keyed("second"));
    let first = bench.one(A);
    assert_eq!(texts(std::slice::from_ref(&first)), ["first"]);
    bench.settle(A, first.receipt_parts, Verdict::Ack);
    assert!(taken(&mut bench), "it is the second's");
    let second = bench.one(A);
    bench.settle(A, second.receipt_parts, Verdict::Ack);
    assert!(!taken(&mut bench));
}

#[test]
fn a_key_that_was_freed_and_taken_again_has_a_window_of_its_own() {
    let mut bench = keeping(Dedup::until_ack);
    bench.offer(keyed("first"));
    bench.pass(WINDOW - 1);
    let one = bench.take(A, 1).remove(0);
    bench.settle(A, one.receipt_parts, Verdict::Ack);
    bench.offer(keyed("second"));
    bench.pass(1);
    assert!(taken(&mut bench), "the first's window is not the second's");
    bench.pass(WINDOW);
    assert!(!taken(&mut bench));
}
