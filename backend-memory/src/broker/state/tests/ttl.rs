//! Times to live: who is too late, and when it is noticed.

use super::*;

fn mortal(text: &'static str, ttl: u64) -> Message {
    Message::new(text).with_ttl(seconds(ttl))
}

#[test]
fn what_expires_is_never_handed_out_and_dies_when_it_expires() {
    let mut bench = Bench::new();
    bench.publish(mortal("short", 2));
    bench.publish(mortal("long", 9));
    bench.put("immortal");
    bench.at(At(1_999_999_999), |_| ());
    assert_eq!(bench.counts(), [3, 0, 0, 0]);
    bench.at(At(2_000_000_000), |_| ());
    assert_eq!(bench.counts(), [2, 0, 0, 1], "noticed by a look at the numbers");
    bench.pass(1);
    let letter = bench.letters().remove(0);
    assert_eq!((letter.reason, &*letter.error, letter.attempts), (DeadReason::Expired, "expired", 0));
    assert_eq!(letter.died_at, bench.clock.wall(At(2_000_000_000)));
    let got = bench.take(A, 9);
    assert_eq!((texts(&got), got[0].message.ttl()), (vec!["long", "immortal"], Some(seconds(9))));
}

#[test]
fn it_is_counted_from_the_publish_over_retries() {
    let mut bench = Bench::new();
    bench.publish(mortal("x", 6).with_delay(seconds(1)));
    bench.pass(1);
    let one = bench.one(A);
    assert_eq!(bench.settle(A, one.receipt_parts, retry(2)), Settled::Applied);
    bench.pass(4);
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
    bench.pass(1);
    assert_eq!(bench.dead(), [("x".into(), DeadReason::Expired)]);
    assert_eq!(bench.letters()[0].attempts, 1);
}

#[test]
fn one_that_waits_for_its_retry_dies_when_it_expires() {
    let mut bench = Bench::new();
    bench.publish(mortal("x", 3));
    let one = bench.one(A);
    bench.settle(A, one.receipt_parts, retry(60));
    bench.pass(3);
    assert_eq!(bench.counts(), [0, 0, 0, 1]);
    bench.pass(60);
    assert_eq!(bench.counts(), [0, 0, 0, 1]);
}

#[test]
fn a_lease_runs_on_and_an_ack_after_the_end_is_an_ack() {
    let mut bench = Bench::new();
    bench.publish(mortal("x", 2));
    let one = bench.one(A);
    bench.pass(3);
    assert_eq!(bench.counts(), [0, 0, 1, 0]);
    assert_eq!(bench.settle(A, one.receipt_parts, Verdict::Ack), Settled::Applied);
    assert_eq!(bench.counts(), [0, 0, 0, 0]);
}

#[test]
fn whatever_brings_it_back_after_its_end_brings_it_to_the_dead() {
    let release = Verdict::Release { after: Duration::ZERO };
    for (verdict, answer, attempts) in [(retry(0), Settled::Died, 1), (release, Settled::Applied, 0)] {
        let mut bench = Bench::new();
        bench.publish(mortal("x", 2));
        let one = bench.one(A);
        bench.pass(2);
        assert_eq!(bench.settle(A, one.receipt_parts, verdict), answer);
        let letter = bench.letters().remove(0);
        assert_eq!(
            (letter.reason, &*letter.error, letter.attempts),
            (DeadReason::Expired, "expired", attempts)
        );
    }
    let mut bench = Bench::new();
    bench.publish(mortal("x", 2));
    bench.one(A);
    bench.pass(LEASE);
    let letter = bench.letters().remove(0);
    assert_eq!((letter.reason, letter.attempts), (DeadReason::Expired, 1));
}

#[test]
fn a_last_attempt_that_fails_is_the_reason_also_after_the_end() {
    let mut bench = Bench::new();
    bench.publish(mortal("x", 2).with_max_attempts(NonZeroU32::MIN));
    let one = bench.one(A);
    bench.pass(3);
    assert_eq!(bench.settle(A, one.receipt_parts, retry(0)), Settled::Died);
    assert_eq!(bench.dead(), [("x".into(), DeadReason::MaxAttempts)]);
}

#[test]
fn what_a_receive_gives_up_too_late_is_dead() {
    let mut bench = Bench::new();
    let (first, second) = (bench.wait(A, 1), bench.wait(B, 1));
    bench.publish(mortal("x", 2));
    bench.pass(2);
    bench.call(|queue| consume::cancel(queue, first));
    assert!(bench.fetch(second).is_none());
    assert_eq!((bench.dead(), bench.letters()[0].attempts), (vec![("x".into(), DeadReason::Expired)], 0));
}

#[test]
fn a_redriven_message_lives_as_long_again() {
    let mut bench = Bench::new();
    bench.publish(mortal("x", 2));
    bench.pass(9);
    let id = bench.letters().remove(0).id;
    assert!(bench.call(|queue| redrive::redrive(queue, &id)));
    bench.pass(1);
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
    bench.pass(1);
    assert_eq!(bench.counts(), [0, 0, 0, 1]);
}

#[test]
fn a_receive_that_waits_keeps_this_time_too() {
    let mut bench = Bench::new();
    let waits = bench.wait(A, 1);
    bench.publish(mortal("x", 2).with_delay(seconds(1)));
    bench.pass(1);
    assert_eq!(texts(&bench.fetch(waits).unwrap()), ["x"]);
    bench.publish(mortal("y", 3));
    let one = bench.one(B);
    bench.settle(B, one.receipt_parts, retry(9));
    let waits = bench.wait(B, 1);
    assert_eq!(bench.call(|queue| consume::keep_time(queue, waits)), Some(At(4_000_000_000)));
}

#[test]
fn one_in_the_middle_goes_and_the_others_keep_their_order() {
    let mut bench = Bench::new();
    for (text, ttl) in [("a", 9), ("b", 1), ("c", 9), ("d", 1), ("e", 9)] {
        bench.publish(mortal(text, ttl));
    }
    bench.pass(1);
    assert_eq!(texts(&bench.take(A, 9)), ["a", "c", "e"]);
    assert_eq!(bench.dead().len(), 2);
    bench.call(admin::purge_waiting);
    bench.pass(60);
    assert_eq!(bench.queue.expiry.next(), None, "nothing is remembered of what is gone");
}
