//! Leases end, are extended, and fence verdicts.

use super::*;

#[test]
fn the_last_lease_ends_in_death_noticed_by_a_listing() {
    let mut bench = Bench::new();
    bench.publish(Message::new("x").with_max_attempts(NonZeroU32::MIN));
    bench.one(A);
    bench.pass(LEASE);
    let letter = bench.letters().remove(0);
    assert_eq!(
        (letter.reason, &*letter.error, letter.attempts),
        (DeadReason::MaxAttempts, "lease expired", 1)
    );
    assert_eq!(bench.counts(), [0, 0, 0, 1]);
}

#[test]
fn a_stale_receipt_has_no_effect_whatever_it_says() {
    let mut bench = Bench::new();
    bench.put("x");
    let stale = bench.one(A);
    bench.pass(LEASE);
    assert_eq!(bench.settle(A, stale.receipt_parts, Verdict::Ack), Settled::LeaseLost, "nobody took it yet");
    assert_eq!(bench.call(|queue| settle::extend(queue, A, stale.receipt_parts)), None);
    let fresh = bench.one(B);
    for verdict in [Verdict::Ack, retry(0), Verdict::reject("no"), Verdict::Release { after: Duration::ZERO }]
    {
        assert_eq!(bench.settle(A, stale.receipt_parts, verdict), Settled::LeaseLost);
    }
    assert_eq!(bench.settle(A, fresh.receipt_parts, Verdict::Ack), Settled::LeaseLost, "it is B's");
    assert_eq!(bench.call(|queue| settle::extend(queue, A, fresh.receipt_parts)), None);
    assert_eq!(bench.settle(B, fresh.receipt_parts, Verdict::Ack), Settled::Applied);
    assert_eq!(bench.counts(), [0, 0, 0, 0]);
}

#[test]
fn a_second_verdict_is_told_apart_until_the_lease_would_have_ended() {
    let mut bench = Bench::new();
    bench.put("x");
    let one = bench.one(A);
    assert_eq!(bench.settle(A, one.receipt_parts, retry(1)), Settled::Applied);
    assert_eq!(bench.settle(A, one.receipt_parts, Verdict::Ack), Settled::AlreadySettled);
    assert_eq!(bench.call(|queue| settle::extend(queue, A, one.receipt_parts)), None);
    bench.pass(LEASE);
    assert_eq!(bench.settle(A, one.receipt_parts, Verdict::Ack), Settled::LeaseLost);
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
}

#[test]
fn an_extension_counts_from_now_also_for_second_verdicts() {
    let mut bench = Bench::new();
    bench.put("x");
    let one = bench.one(A);
    bench.pass(4);
    let until = bench.call(|queue| settle::extend(queue, A, one.receipt_parts));
    assert_eq!(until, Some(At(9_000_000_000)));
    bench.pass(4);
    assert_eq!(bench.counts(), [0, 0, 1, 0]);
    assert_eq!(bench.settle(A, one.receipt_parts, Verdict::Ack), Settled::Applied);
    assert_eq!(bench.settle(A, one.receipt_parts, Verdict::Ack), Settled::AlreadySettled);
    bench.pass(1);
    assert_eq!(bench.settle(A, one.receipt_parts, Verdict::Ack), Settled::LeaseLost);
}

#[test]
fn an_extended_lease_ends_too() {
    let mut bench = Bench::new();
    bench.put("x");
    let one = bench.one(A);
    bench.pass(4);
    bench.call(|queue| settle::extend(queue, A, one.receipt_parts));
    bench.pass(LEASE);
    assert_eq!(bench.settle(A, one.receipt_parts, Verdict::Ack), Settled::LeaseLost);
    assert_eq!(bench.one(B).attempt, 2);
}

#[test]
fn what_a_gone_consumer_holds_comes_back_at_the_leases_end() {
    let mut bench = Bench::new();
    bench.put("x");
    bench.one(A);
    bench.call(|queue| consume::leave(queue, A));
    bench.pass(LEASE - 1);
    assert!(bench.take(B, 1).is_empty());
    bench.pass(1);
    assert_eq!(bench.one(B).attempt, 2);
}
