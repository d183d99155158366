//! DeadLetters letters: their records, pages and ways back.

use super::*;

#[test]
fn a_rejected_message_is_dead_and_comes_back_by_redrive() {
    let mut bench = Bench::new();
    bench.publish(Message::new("x").with_priority(level(9)).with_header("k", "v"));
    let one = bench.one(A);
    assert_eq!(bench.settle(A, one.receipt_parts, Verdict::reject("not mine")), Settled::Died);
    let letter = bench.letters().remove(0);
    assert_eq!((letter.reason, &*letter.error), (DeadReason::Rejected, "not mine"));
    bench.put("y");
    assert!(bench.call(|queue| redrive::redrive(queue, &letter.id)));
    assert!(!bench.call(|queue| redrive::redrive(queue, &letter.id)));
    let again = bench.one(A);
    assert_eq!(*again.message, *letter.message().unwrap());
    assert_eq!(again.attempt, 1);
    bench.settle(A, again.receipt_parts, Verdict::reject("still not"));
    let letter = bench.letters().remove(0);
    assert_eq!((letter.attempts, letter.total_attempts, letter.redriven), (1, 2, 1));
    assert!(bench.call(|queue| redrive::discard(queue, &letter.id)));
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
}

#[test]
fn ids_that_fit_nothing_are_not_there() {
    let mut bench = Bench::new();
    bench.put("x");
    let one = bench.one(A);
    bench.settle(A, one.receipt_parts, Verdict::reject(""));
    let id = bench.letters().remove(0).id;
    let number = id.as_str().split_once('-').unwrap().1;
    for wrong in
        ["", "-", "x", number, &format!("1-{number}"), &format!("0-0{number}"), &format!("+0-{number}")]
    {
        assert!(!bench.call(|queue| redrive::redrive(queue, &DeadId::new(wrong))), "{wrong:?}");
    }
    assert!(bench.call(|queue| redrive::redrive(queue, &id)));
}

#[test]
fn bytes_that_are_no_message_die_alone_and_again_after_a_redrive() {
    let mut bench = Bench::new();
    let room = Budget::new(u64::MAX, EventSender::new("")).reserve(&Message::new("")).unwrap();
    bench.call(|queue| publish::enter(queue, Stored::unreadable("\0junk".into(), room)));
    bench.put("good");
    assert_eq!(texts(&bench.take(A, 1)), ["good"]);
    let letter = bench.letters().remove(0);
    assert_eq!((letter.reason, &letter.body), (DeadReason::Undecodable, &DeadBody::Raw("\0junk".into())));
    assert!(bench.call(|queue| redrive::redrive(queue, &letter.id)));
    assert!(bench.take(A, 1).is_empty());
    let letter = bench.letters().remove(0);
    assert_eq!((letter.redriven, &letter.body), (1, &DeadBody::Raw("\0junk".into())));
}

#[test]
fn pages_have_no_gap_while_others_die_and_end_with_what_was_there() {
    let mut bench = Bench::new();
    let die = |bench: &mut Bench, error: &'static str| {
        bench.put(error);
        let one = bench.one(A);
        bench.settle(A, one.receipt_parts, Verdict::reject(error));
    };
    for error in ["a1", "b", "a2", "a3"] {
        die(&mut bench, error);
    }
    let filter = DeadFilter::all().error("a");
    let first = bench.page(&filter, &Page::first(2));
    die(&mut bench, "a4");
    let second = bench.page(&filter, &Page::after(first.next.unwrap(), 2));
    assert!(second.next.is_none());
    let errors = first.dead_letters.iter().chain(&second.dead_letters).map(|letter| &*letter.error);
    assert_eq!(errors.collect::<Vec<_>>(), ["a1", "a2", "a3"]);
    assert_eq!(bench.page(&filter, &Page::first(9)).dead_letters.len(), 4);
}
