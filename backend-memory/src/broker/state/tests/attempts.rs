//! What counts as an attempt, and how many there are.

use super::*;

#[test]
fn a_retry_counts_and_a_release_does_not() {
    let mut bench = Bench::new();
    bench.put("x");
    for (attempt, verdict) in [(1, retry(0)), (2, Verdict::Release { after: Duration::ZERO }), (2, retry(0))]
    {
        let one = bench.one(A);
        assert_eq!(one.attempt, attempt);
        assert_eq!(bench.settle(A, one.receipt_parts, verdict), Settled::Applied);
    }
    let last = bench.one(A);
    assert_eq!((last.attempt, last.message.retries(), last.message.last_error()), (3, 2, Some("boom")));
    assert_eq!(bench.settle(A, last.receipt_parts, Verdict::retry(seconds(9), "last")), Settled::Died);
    let letter = bench.letters().remove(0);
    assert_eq!((letter.reason, &*letter.error, letter.attempts), (DeadReason::MaxAttempts, "last", 3));
    assert_eq!(letter.consumer.as_deref(), Some("worker"));
}

#[test]
fn a_wait_is_counted_from_the_verdict() {
    let mut bench = Bench::new();
    bench.put("x");
    let one = bench.one(A);
    bench.pass(2);
    bench.settle(A, one.receipt_parts, retry(3));
    bench.pass(2);
    assert_eq!(bench.counts(), [0, 1, 0, 0]);
    bench.pass(1);
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
}

#[test]
fn the_messages_own_maximum_wins_and_is_fixed_at_the_hand_out() {
    let mut bench = Bench::new();
    bench.publish(Message::new("one").with_max_attempts(NonZeroU32::MIN));
    bench.publish(Message::new("five").with_max_attempts(NonZeroU32::new(5).unwrap()));
    let (one, mut five) = (bench.one(A), bench.one(A));
    assert_eq!(bench.settle(A, one.receipt_parts, retry(0)), Settled::Died);
    for _ in 1..5 {
        assert_eq!(bench.settle(A, five.receipt_parts, retry(0)), Settled::Applied);
        five = bench.one(A);
    }
    assert_eq!((five.attempt, bench.settle(A, five.receipt_parts, retry(0))), (5, Settled::Died));
}

#[test]
fn who_allows_fewer_attempts_buries_nothing_that_others_would_try_again() {
    let mut bench = Bench::new();
    bench.join(ConsumerId(3), terms().max_attempts(NonZeroU32::MIN));
    bench.put("x");
    let one = bench.one(A);
    bench.settle(A, one.receipt_parts, retry(0));
    for attempt in 2..=3 {
        let theirs = bench.one(ConsumerId(3));
        assert_eq!((theirs.attempt, theirs.max_attempts), (attempt, 3));
        let answer = if attempt == 3 { Settled::Died } else { Settled::Applied };
        assert_eq!(bench.settle(ConsumerId(3), theirs.receipt_parts, retry(0)), answer);
    }
    let letter = bench.letters().remove(0);
    assert_eq!((letter.reason, &*letter.error, letter.attempts), (DeadReason::MaxAttempts, "boom", 3));
}
