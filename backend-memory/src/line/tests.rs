//! The rules of one queue, without a runtime: time is a number.

use std::num::NonZeroU32;
use std::time::Duration;

use polyqueue::{
    DeadBody, DeadFilter, DeadId, DeadLetter, DeadReason, Message, Page, Priority, Purge, QueueName, Settled,
    Subscription, Verdict,
};

use super::{Answer, Asked, Handed, Item, Line, Ticket};
use crate::budget::Budget;
use crate::clock::{At, Clock};
use crate::receipt::{ReaderId, Stub};

const QUEUE: QueueName = QueueName::from_static("q");
const A: ReaderId = ReaderId(1);
const B: ReaderId = ReaderId(2);
const LEASE: u64 = 5;
const RETRY: Verdict = Verdict::Retry { after: Duration::ZERO, error: String::new() };

/// A queue, its time in seconds, and two consumers, A and B.
struct Bench {
    line: Line,
    woken: Vec<Ticket>,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { line: Line::new(&QUEUE.into(), Clock::start(), 0), woken: Vec::new() };
        bench.join(A, terms());
        bench.join(B, terms());
        bench
    }

    fn join(&mut self, reader: ReaderId, terms: Subscription) {
        self.call(|line| line.join(reader, &terms));
    }

    fn call<R>(&mut self, act: impl FnOnce(&mut Line) -> R) -> R {
        self.at(self.line.now(), act)
    }

    fn at<R>(&mut self, now: At, act: impl FnOnce(&mut Line) -> R) -> R {
        self.line.advance(now);
        let answer = act(&mut self.line);
        self.woken.extend(self.line.effects().woken);
        answer
    }

    /// Lets seconds pass.
    fn pass(&mut self, seconds: u64) {
        let now = self.line.now().plus(Duration::from_secs(seconds));
        self.at(now, |_| ());
    }

    fn publish(&mut self, message: Message) {
        self.publish_all([message]);
    }

    fn publish_all(&mut self, messages: impl IntoIterator<Item = Message>) {
        let items = messages.into_iter().map(item).collect::<Vec<_>>();
        self.call(|line| {
            items.into_iter().for_each(|item| line.enter(item));
            line.announce();
        });
    }

    fn put(&mut self, text: &'static str) {
        self.publish(Message::new(text));
    }

    /// What is ready now, as text.
    fn take(&mut self, reader: ReaderId, max: usize) -> Vec<Handed> {
        match self.call(|line| line.ask(reader, max, false)) {
            Asked::Handed(handed) => handed,
            Asked::Wait(_) => panic!("it was not to wait"),
        }
    }

    fn one(&mut self, reader: ReaderId) -> Handed {
        self.take(reader, 1).pop().expect("something is ready")
    }

    fn wait(&mut self, reader: ReaderId, max: usize) -> Ticket {
        match self.call(|line| line.ask(reader, max, true)) {
            Asked::Wait(ticket) => ticket,
            Asked::Handed(handed) => panic!("handed {handed:?}"),
        }
    }

    fn fetch(&mut self, ticket: Ticket) -> Option<Vec<Handed>> {
        match self.call(|line| line.fetch(ticket))? {
            Answer::Handed(handed) => Some(handed),
            other => panic!("{other:?}"),
        }
    }

    fn settle(&mut self, reader: ReaderId, stub: Stub, verdict: Verdict) -> Settled {
        self.call(|line| line.settle(reader, stub, &verdict)).0
    }

    fn letters(&mut self) -> Vec<DeadLetter> {
        self.call(|line| line.dead_letters(&DeadFilter::all(), &Page::first(500))).unwrap().letters
    }

    /// Ready, delayed, in flight, dead.
    fn counts(&mut self) -> [u64; 4] {
        let stats = self.call(|line| line.stats());
        [stats.ready, stats.delayed.unwrap(), stats.in_flight.unwrap(), stats.dead]
    }
}

fn item(message: Message) -> Box<Item> {
    let room = Budget::new(u64::MAX).reserve(&message).unwrap();
    Item::new(message, room)
}

fn terms() -> Subscription {
    Subscription::new(QUEUE)
        .lease(seconds(LEASE))
        .max_attempts(NonZeroU32::new(3).unwrap())
        .consumer("worker")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn texts(handed: &[Handed]) -> Vec<&str> {
    handed.iter().map(|one| std::str::from_utf8(one.message.payload()).unwrap()).collect()
}

fn level(level: u8) -> Priority {
    Priority::new(level).unwrap()
}

fn retry(after: u64) -> Verdict {
    Verdict::retry(seconds(after), "boom")
}

#[test]
fn a_batch_is_ordered_by_priority_then_age() {
    let mut bench = Bench::new();
    for (text, priority) in [("c", 2), ("a", 10), ("d", 1), ("b", 9), ("a2", 10)] {
        bench.publish(Message::new(text).with_priority(level(priority)));
    }
    assert_eq!(texts(&bench.take(A, 3)), ["a", "a2", "b"]);
    assert_eq!(texts(&bench.take(A, 9)), ["c", "d"]);
}

#[test]
fn delays_are_independent_and_equal_ones_keep_their_order() {
    let mut bench = Bench::new();
    for (text, delay) in [("ten", 10), ("one", 1), ("three", 3), ("three too", 3)] {
        bench.publish(Message::new(text).with_delay(seconds(delay)));
    }
    assert_eq!(bench.counts(), [0, 4, 0, 0]);
    bench.at(At(999_999_999), |_| ());
    assert!(bench.take(A, 9).is_empty());
    bench.at(At(1_000_000_000), |_| ());
    let one = bench.one(A);
    assert_eq!((texts(&[one])[0], bench.line.now()), ("one", At(1_000_000_000)));
    bench.pass(2);
    assert_eq!(texts(&bench.take(A, 9)), ["three", "three too"]);
    bench.pass(7);
    let ten = bench.one(B);
    assert_eq!(ten.message.delay(), Duration::ZERO);
}

#[test]
fn what_became_due_first_stands_first_whoever_notices() {
    let mut bench = Bench::new();
    bench.publish(Message::new("due at 2").with_delay(seconds(2)));
    bench.publish(Message::new("due at 1").with_delay(seconds(1)));
    bench.pass(3);
    bench.put("published at 3");
    assert_eq!(texts(&bench.take(A, 9)), ["due at 1", "due at 2", "published at 3"]);
}

#[test]
fn a_retry_counts_and_a_release_does_not() {
    let mut bench = Bench::new();
    bench.put("x");
    for (attempt, verdict) in [(1, retry(0)), (2, Verdict::Release { after: Duration::ZERO }), (2, retry(0))]
    {
        let one = bench.one(A);
        assert_eq!(one.attempt, attempt);
        assert_eq!(bench.settle(A, one.stub, verdict), Settled::Applied);
    }
    let last = bench.one(A);
    assert_eq!((last.attempt, last.message.retries(), last.message.last_error()), (3, 2, Some("boom")));
    assert_eq!(bench.settle(A, last.stub, Verdict::retry(seconds(9), "last")), Settled::Died);
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
    bench.settle(A, one.stub, retry(3));
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
    assert_eq!(bench.settle(A, one.stub, retry(0)), Settled::Died);
    for _ in 1..5 {
        assert_eq!(bench.settle(A, five.stub, retry(0)), Settled::Applied);
        five = bench.one(A);
    }
    assert_eq!((five.attempt, bench.settle(A, five.stub, retry(0))), (5, Settled::Died));
}

#[test]
fn nobody_is_handed_more_attempts_than_his_subscription_allows() {
    let mut bench = Bench::new();
    bench.join(ReaderId(3), terms().max_attempts(NonZeroU32::MIN));
    bench.put("x");
    let one = bench.one(A);
    bench.settle(A, one.stub, retry(0));
    assert!(bench.take(ReaderId(3), 1).is_empty());
    let letter = bench.letters().remove(0);
    assert_eq!((letter.reason, &*letter.error, letter.attempts), (DeadReason::MaxAttempts, "boom", 1));
}

#[test]
fn a_lease_ends_behind_those_that_are_ready_then() {
    let mut bench = Bench::new();
    bench.put("held");
    let held = bench.one(A);
    bench.put("before");
    bench.pass(LEASE);
    bench.put("after");
    let again = bench.take(B, 3);
    assert_eq!((texts(&again), again[1].attempt), (vec!["before", "held", "after"], 2));
    assert_ne!(again[1].stub.token, held.stub.token);
}

#[test]
fn whatever_brings_a_message_back_keeps_its_priority() {
    let mut bench = Bench::new();
    bench.publish(Message::new("urgent").with_priority(level(9)).with_delay(seconds(1)));
    bench.pass(1);
    let one = bench.one(A);
    bench.settle(A, one.stub, retry(1));
    bench.pass(1);
    let one = bench.one(A);
    bench.settle(A, one.stub, Verdict::Release { after: seconds(1) });
    bench.pass(1);
    bench.one(A);
    bench.publish(Message::new("less urgent").with_priority(level(8)));
    bench.pass(LEASE);
    let got = bench.take(B, 2);
    assert_eq!((texts(&got), got[0].attempt), (vec!["urgent", "less urgent"], 3));
}

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
    assert_eq!(bench.settle(A, stale.stub, Verdict::Ack), Settled::LeaseLost, "nobody took it yet");
    assert_eq!(bench.call(|line| line.extend(A, stale.stub)), None);
    let fresh = bench.one(B);
    for verdict in [Verdict::Ack, retry(0), Verdict::reject("no"), Verdict::Release { after: Duration::ZERO }]
    {
        assert_eq!(bench.settle(A, stale.stub, verdict), Settled::LeaseLost);
    }
    assert_eq!(bench.settle(A, fresh.stub, Verdict::Ack), Settled::LeaseLost, "it is B's");
    assert_eq!(bench.call(|line| line.extend(A, fresh.stub)), None);
    assert_eq!(bench.settle(B, fresh.stub, Verdict::Ack), Settled::Applied);
    assert_eq!(bench.counts(), [0, 0, 0, 0]);
}

#[test]
fn a_second_verdict_is_told_apart_until_the_lease_would_have_ended() {
    let mut bench = Bench::new();
    bench.put("x");
    let one = bench.one(A);
    assert_eq!(bench.settle(A, one.stub, retry(1)), Settled::Applied);
    assert_eq!(bench.settle(A, one.stub, Verdict::Ack), Settled::AlreadySettled);
    assert_eq!(bench.call(|line| line.extend(A, one.stub)), None);
    bench.pass(LEASE);
    assert_eq!(bench.settle(A, one.stub, Verdict::Ack), Settled::LeaseLost);
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
}

#[test]
fn an_extension_counts_from_now_also_for_second_verdicts() {
    let mut bench = Bench::new();
    bench.put("x");
    let one = bench.one(A);
    bench.pass(4);
    let until = bench.call(|line| line.extend(A, one.stub));
    assert_eq!(until, Some(At(9_000_000_000)));
    bench.pass(4);
    assert_eq!(bench.counts(), [0, 0, 1, 0]);
    assert_eq!(bench.settle(A, one.stub, Verdict::Ack), Settled::Applied);
    assert_eq!(bench.settle(A, one.stub, Verdict::Ack), Settled::AlreadySettled);
    bench.pass(1);
    assert_eq!(bench.settle(A, one.stub, Verdict::Ack), Settled::LeaseLost);
}

#[test]
fn an_extended_lease_ends_too() {
    let mut bench = Bench::new();
    bench.put("x");
    let one = bench.one(A);
    bench.pass(4);
    bench.call(|line| line.extend(A, one.stub));
    bench.pass(LEASE);
    assert_eq!(bench.settle(A, one.stub, Verdict::Ack), Settled::LeaseLost);
    assert_eq!(bench.one(B).attempt, 2);
}

#[test]
fn a_rejected_message_is_dead_and_comes_back_by_redrive() {
    let mut bench = Bench::new();
    bench.publish(Message::new("x").with_priority(level(9)).with_header("k", "v"));
    let one = bench.one(A);
    assert_eq!(bench.settle(A, one.stub, Verdict::reject("not mine")), Settled::Died);
    let letter = bench.letters().remove(0);
    assert_eq!((letter.reason, &*letter.error), (DeadReason::Rejected, "not mine"));
    bench.put("y");
    assert!(bench.call(|line| line.redrive(&letter.id)));
    assert!(!bench.call(|line| line.redrive(&letter.id)));
    let again = bench.one(A);
    assert_eq!(again.message, *letter.message().unwrap());
    assert_eq!(again.attempt, 1);
    bench.settle(A, again.stub, Verdict::reject("still not"));
    let letter = bench.letters().remove(0);
    assert_eq!((letter.attempts, letter.total_attempts, letter.redriven), (1, 2, 1));
    assert!(bench.call(|line| line.discard(&letter.id)));
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
}

#[test]
fn ids_that_fit_nothing_are_not_there() {
    let mut bench = Bench::new();
    bench.put("x");
    let one = bench.one(A);
    bench.settle(A, one.stub, Verdict::reject(""));
    let id = bench.letters().remove(0).id;
    let number = id.as_str().split_once('-').unwrap().1;
    for wrong in
        ["", "-", "x", number, &format!("1-{number}"), &format!("0-0{number}"), &format!("+0-{number}")]
    {
        assert!(!bench.call(|line| line.redrive(&DeadId::new(wrong))), "{wrong:?}");
    }
    assert!(bench.call(|line| line.redrive(&id)));
}

#[test]
fn bytes_that_are_no_message_die_alone_and_again_after_a_redrive() {
    let mut bench = Bench::new();
    let room = Budget::new(u64::MAX).reserve(&Message::new("")).unwrap();
    bench.call(|line| line.enter(Item::unreadable("\0junk".into(), room)));
    bench.put("good");
    assert_eq!(texts(&bench.take(A, 1)), ["good"]);
    let letter = bench.letters().remove(0);
    assert_eq!((letter.reason, &letter.body), (DeadReason::Undecodable, &DeadBody::Raw("\0junk".into())));
    assert!(bench.call(|line| line.redrive(&letter.id)));
    assert!(bench.take(A, 1).is_empty());
    let letter = bench.letters().remove(0);
    assert_eq!((letter.redriven, &letter.body), (1, &DeadBody::Raw("\0junk".into())));
}

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
fn those_who_wait_are_served_oldest_first() {
    let mut bench = Bench::new();
    let (first, second) = (bench.wait(A, 1), bench.wait(B, 1));
    bench.put("x");
    assert_eq!(bench.woken, [first, second], "the second keeps the time now");
    assert!(bench.take(B, 1).is_empty(), "it is handed to the first already");
    assert!(bench.fetch(second).is_none());
    assert_eq!(texts(&bench.fetch(first).unwrap()), ["x"]);
    bench.put("y");
    assert_eq!(texts(&bench.fetch(second).unwrap()), ["y"]);
}

#[test]
fn a_batch_that_is_published_at_once_is_brought_at_once() {
    let mut bench = Bench::new();
    let ticket = bench.wait(A, 2);
    bench.publish_all(["x", "y", "z"].map(Message::new));
    assert_eq!(texts(&bench.fetch(ticket).unwrap()), ["x", "y"]);
    assert_eq!(bench.counts(), [1, 0, 2, 0]);
}

#[test]
fn what_a_receive_gives_up_goes_back_to_its_place_unburned() {
    let mut bench = Bench::new();
    let (first, second) = (bench.wait(A, 1), bench.wait(A, 1));
    bench.put("x");
    bench.put("y");
    bench.put("z");
    bench.call(|line| line.cancel(second));
    bench.call(|line| line.cancel(first));
    let got = bench.take(B, 9);
    assert_eq!(texts(&got), ["x", "y", "z"]);
    assert!(got.iter().all(|one| one.attempt == 1));
}

#[test]
fn what_a_receive_gives_up_serves_the_next_who_waits() {
    let mut bench = Bench::new();
    let (first, second) = (bench.wait(A, 1), bench.wait(B, 1));
    bench.put("x");
    bench.woken.clear();
    bench.call(|line| line.cancel(first));
    assert_eq!(bench.woken, [second]);
    assert_eq!(bench.fetch(second).unwrap()[0].attempt, 1);
}

#[test]
fn the_oldest_receive_keeps_the_time_and_hands_it_on() {
    let mut bench = Bench::new();
    let (first, second) = (bench.wait(A, 1), bench.wait(B, 1));
    assert_eq!(bench.call(|line| line.keep_time(first)), None, "nothing is due");
    bench.publish(Message::new("x").with_delay(seconds(9)));
    assert_eq!(std::mem::take(&mut bench.woken), [first]);
    assert_eq!(bench.call(|line| line.keep_time(first)), Some(At(9_000_000_000)));
    assert_eq!(bench.call(|line| line.keep_time(second)), None);
    bench.publish(Message::new("y").with_delay(seconds(10)));
    assert!(bench.woken.is_empty(), "its timer is early enough");
    bench.publish(Message::new("z").with_delay(seconds(3)));
    assert_eq!(std::mem::take(&mut bench.woken), [first], "its timer is too late");
    bench.call(|line| line.cancel(first));
    assert_eq!(bench.woken, [second]);
    assert_eq!(bench.call(|line| line.keep_time(second)), Some(At(3_000_000_000)));
}

#[test]
fn a_consumer_never_holds_more_than_its_prefetch() {
    let mut bench = Bench::new();
    let c = ReaderId(3);
    bench.join(c, terms().prefetch(2));
    for text in ["w", "x", "y", "z"] {
        bench.put(text);
    }
    let held = bench.take(c, 9);
    assert_eq!(texts(&held), ["w", "x"]);
    let full = bench.wait(c, 9);
    let other = bench.wait_or_take(A);
    assert_eq!(texts(&other), ["y"], "a full consumer holds up nobody");
    assert!(bench.fetch(full).is_none());
    bench.settle(c, held[0].stub, Verdict::Ack);
    assert_eq!(texts(&bench.fetch(full).unwrap()), ["z"]);
    bench.put("again");
    let full = bench.wait(c, 1);
    bench.pass(LEASE);
    assert_eq!(bench.fetch(full).unwrap().len(), 1, "the end of a lease makes room too");
}

impl Bench {
    fn wait_or_take(&mut self, reader: ReaderId) -> Vec<Handed> {
        match self.call(|line| line.ask(reader, 1, true)) {
            Asked::Handed(handed) => handed,
            Asked::Wait(ticket) => self.fetch(ticket).unwrap_or_default(),
        }
    }
}

#[test]
fn a_closed_consumer_gets_nothing_but_may_still_settle() {
    let mut bench = Bench::new();
    bench.put("x");
    let one = bench.one(A);
    let waits = bench.wait(A, 1);
    bench.call(|line| line.close_reader(A));
    assert!(bench.fetch(waits).unwrap().is_empty());
    bench.put("y");
    assert!(bench.wait_or_take(A).is_empty());
    assert_eq!(bench.settle(A, one.stub, RETRY), Settled::Applied);
    assert_eq!(bench.counts(), [2, 0, 0, 0]);
}

#[test]
fn what_a_gone_consumer_holds_comes_back_at_the_leases_end() {
    let mut bench = Bench::new();
    bench.put("x");
    bench.one(A);
    bench.call(|line| line.leave(A));
    bench.pass(LEASE - 1);
    assert!(bench.take(B, 1).is_empty());
    bench.pass(1);
    assert_eq!(bench.one(B).attempt, 2);
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

#[test]
fn pages_have_no_gap_while_others_die() {
    let mut bench = Bench::new();
    let die = |bench: &mut Bench, error: &'static str| {
        bench.put(error);
        let one = bench.one(A);
        bench.settle(A, one.stub, Verdict::reject(error));
    };
    for error in ["a1", "b", "a2", "a3"] {
        die(&mut bench, error);
    }
    let filter = DeadFilter::all().error("a");
    let first = bench.call(|line| line.dead_letters(&filter, &Page::first(2))).unwrap();
    die(&mut bench, "a4");
    let second = bench.call(|line| line.dead_letters(&filter, &Page::after(first.next.unwrap(), 2))).unwrap();
    assert!(second.next.is_none());
    let errors = first.letters.iter().chain(&second.letters).map(|letter| &*letter.error);
    assert_eq!(errors.collect::<Vec<_>>(), ["a1", "a2", "a3", "a4"]);
}
