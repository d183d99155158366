//! The judge on journals in which one thing is wrong.

use std::sync::Arc;
use std::time::Duration;

use super::deed::{Deed, Done};
use super::entry::{Ended, Entry, Handout, Told, What, Word};
use super::found::Evidence;
use super::judge::judge;
use super::ledger::Ledger;
use super::order::Watch;
use super::task::Task;
use crate::Fault;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A journal, written by hand.
struct Script {
    ledger: Ledger,
    deeds: Vec<Done>,
    holds_by_connection: bool,
    ack_window: Duration,
    atomic_moves: bool,
}

impl Script {
    /// One message, stored.
    fn stored(task: Task, delay: Duration) -> Self {
        let ledger = Ledger::new(Arc::new(Watch::default()));
        let (deeds, ack_window) = (Vec::new(), Duration::ZERO);
        let script = Self { ledger, deeds, holds_by_connection: false, ack_window, atomic_moves: true };
        script.note(0, What::Publishing { producer: 0, id: "m".into(), queue: 0, delay, task });
        script.note(10, What::Published { id: "m".into(), told: Told::Stored });
        script
    }

    fn note(&self, at: u64, what: What) {
        self.ledger.note(Entry { at: ms(at), what });
    }

    fn came(&self, hold: u64, asked: u64, at: u64, attempt: u32) {
        let id = "m".into();
        let until = ms(asked + 2_000);
        self.note(
            at,
            What::Came(Handout { hold, consumer: 0, queue: 0, id, attempt, asked: ms(asked), until }),
        );
    }

    fn settled(&self, hold: u64, at: u64, word: Word, told: Ended) {
        self.note(at, What::Settling { hold, word });
        self.note(at + 5, What::Settled { hold, told });
    }

    fn fault(mut self, deed: Deed, began: u64, healed: u64) -> Self {
        self.deeds.push(Done { deed, began: ms(began), there: ms(began), healed: ms(healed) });
        self
    }

    /// The rules that are broken, seen at this time.
    fn broken(&self, ended: u64) -> Vec<&'static str> {
        let pages = self.ledger.pages();
        let evidence = Evidence {
            pages: &pages,
            deeds: &self.deeds,
            flows: Duration::ZERO,
            ended: ms(ended),
            consumers: 1,
            producers: 1,
            holds_by_connection: self.holds_by_connection,
            ack_window: self.ack_window,
            atomic_moves: self.atomic_moves,
            grain: Duration::ZERO,
            slowness: &|_, _| Duration::ZERO,
        };
        judge(&evidence).0.into_iter().map(|violation| violation.rule).collect()
    }
}

fn plain() -> Script {
    Script::stored(Task::Ack, Duration::ZERO)
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_message_that_came_once_and_was_acked_breaks_nothing() {
    let script = plain();
    script.came(1, 0, 20, 1);
    script.settled(1, 30, Word::Ack, Ended::Applied);
    assert_eq!(script.broken(60_000), NOTHING);
}

#[test]
fn what_was_stored_and_is_nowhere_is_lost_and_its_consumer_silent() {
    assert_eq!(plain().broken(60_000), ["lost", "late", "silent"]);
    let dead = plain();
    dead.ledger.pages().bury("m");
    assert_eq!(dead.broken(60_000), NOTHING);
}

#[test]
fn what_may_not_be_stored_is_not_missed_and_what_surely_is_not_may_not_come() {
    let script = plain();
    script.note(11, What::Published { id: "m".into(), told: Told::Unknown });
    assert_eq!(script.broken(60_000), NOTHING);
    script.note(12, What::Published { id: "m".into(), told: Told::Refused });
    script.came(1, 0, 20, 1);
    script.settled(1, 30, Word::Ack, Ended::Applied);
    assert_eq!(script.broken(60_000), ["unexpected"]);
}

#[test]
fn what_was_acked_may_not_come_again_whatever_happens() {
    let script = plain().fault(Deed::Broker(Fault::Kill9), 50, 100);
    script.came(1, 0, 20, 1);
    script.settled(1, 30, Word::Ack, Ended::Applied);
    script.came(2, 200, 2_500, 2);
    script.settled(2, 2_501, Word::Ack, Ended::Applied);
    assert_eq!(script.broken(60_000), ["after_ack"]);
}

/// Where a move takes two steps, a fault between them leaves two copies, of what was moved.
#[test]
fn a_second_copy_needs_a_move_and_a_fault() {
    let script = |attempt, faults: u64, atomic_moves| {
        let cut =
            |script: Script, nth| script.fault(Deed::Broker(Fault::CloseConnections), 15 + nth, 20 + nth);
        let script = (0..faults).fold(plain(), cut);
        let script = Script { atomic_moves, holds_by_connection: !atomic_moves, ..script };
        script.came(1, 10, 20, attempt);
        script.settled(1, 30, Word::Ack, Ended::Applied);
        script.came(2, 2_200, 2_500, attempt);
        script.settled(2, 2_501, Word::Ack, Ended::Applied);
        script.broken(60_000).contains(&"after_ack")
    };
    assert!(!script(2, 1, false), "a move that a fault came into");
    assert!(script(1, 1, false), "a first hand-out was not moved");
    assert!(
        !script(1, 2, false),
        "a fault made the client move what it had been pushed, the next came into that"
    );
    assert!(script(2, 0, false), "nothing came into its move");
    assert!(script(2, 2, true), "a move in one step");
}

/// Each of two copies has its own waits.
#[test]
fn a_copy_comes_when_its_own_wait_is_over() {
    let script = |first_wait, answer, atomic_moves| {
        let script = plain().fault(Deed::Broker(Fault::CloseConnections), 35, 40);
        let script = Script { atomic_moves, holds_by_connection: true, ..script };
        script.came(1, 10, 20, 1);
        script.settled(1, 30, Word::Retry { after: ms(first_wait) }, answer);
        script.came(2, 390, 400, 1);
        script.settled(2, 410, Word::Retry { after: ms(300) }, Ended::Applied);
        script.came(3, 415, 420, 2);
        script.settled(3, 430, Word::Ack, Ended::Applied);
        script.broken(60_000).contains(&"early")
    };
    for answer in [Ended::Applied, Ended::Unknown] {
        assert!(!script(300, answer, false), "the first copy's wait was over");
        assert!(script(500, answer, false), "neither wait was over");
        assert!(script(300, answer, true), "there can be no second copy");
    }
    assert!(script(300, Ended::Refused, false), "there is no first copy");
}

/// Of an ack that takes five milliseconds, a broker that was killed may take back what it confirmed within a second before.
#[test]
fn an_ack_counts_from_its_confirmation() {
    let script = |acked, confirmed, killed| {
        let script = plain().fault(Deed::Broker(Fault::Kill9), killed, killed + 800);
        let script = Script { ack_window: ms(1_000), ..script };
        script.came(1, 0, 20, 1);
        script.note(acked, What::Settling { hold: 1, word: Word::Ack });
        script.note(confirmed, What::Settled { hold: 1, told: Ended::Applied });
        script.came(2, 4_000, 4_100, 2);
        script.settled(2, 4_110, Word::Ack, Ended::Applied);
        script.broken(60_000)
    };
    assert_eq!(script(30, 35, 1_000), NOTHING, "within the window");
    assert_eq!(script(30, 35, 1_036), ["after_ack"], "older than the window");
    assert_eq!(script(30, 500, 1_400), NOTHING, "begun long before, confirmed within the window");
    assert_eq!(script(990, 1_050, 1_000), NOTHING, "confirmed before the kill, read after it");
    assert_eq!(script(990, 1_900, 1_000), ["after_ack"], "confirmed by the broker that came up again");
}

#[test]
fn nothing_comes_before_its_delay_or_its_retry() {
    let script = Script::stored(Task::Ack, ms(100));
    script.came(1, 0, 99, 1);
    script.settled(1, 110, Word::Ack, Ended::Applied);
    assert_eq!(script.broken(60_000), ["early"]);

    let script = plain();
    script.came(1, 0, 20, 1);
    script.settled(1, 30, Word::Retry { after: ms(300) }, Ended::Applied);
    script.came(2, 40, 329, 2);
    script.settled(2, 340, Word::Ack, Ended::Applied);
    assert_eq!(script.broken(60_000), ["early"]);
}

#[test]
fn a_redriven_message_counts_its_attempts_anew() {
    let script = Script::stored(Task::Exhaust { after: 100 }, Duration::ZERO);
    let dies = |hold: u64, at: u64| {
        script.came(hold, at - 10, at, 1);
        script.settled(hold, at + 5, Word::Retry { after: ms(100) }, Ended::Applied);
        script.came(hold + 1, at + 15, at + 110, 2);
        script.settled(hold + 1, at + 120, Word::Retry { after: ms(100) }, Ended::Died);
    };
    dies(1, 20);
    script.note(3_000, What::Redriving { id: "m".into() });
    dies(3, 3_020);
    script.ledger.pages().bury("m");
    assert_eq!(script.broken(60_000), NOTHING);
}

#[test]
fn two_holders_at_once_are_wrong_but_where_a_connection_was_the_lease() {
    let script = |deeds: bool, holds_by_connection| {
        let script = plain();
        let script = if deeds { script.fault(Deed::Broker(Fault::CloseConnections), 25, 30) } else { script };
        let script = Script { holds_by_connection, ..script };
        script.came(1, 10, 20, 1);
        script.came(2, 30, 40, 2);
        script.settled(2, 50, Word::Ack, Ended::Applied);
        script.broken(60_000)
    };
    assert_eq!(script(true, false), ["double_holder"]);
    assert_eq!(script(true, true), NOTHING);
    assert_eq!(script(false, true), ["double_holder", "duplicate"]);
}

#[test]
fn a_duplicate_needs_a_fault() {
    let again = |script: &Script| {
        script.came(1, 10, 20, 1);
        script.settled(1, 30, Word::Ack, Ended::Unknown);
        script.came(2, 2_000, 2_100, 2);
        script.settled(2, 2_110, Word::Ack, Ended::Applied);
    };
    let calm = plain();
    again(&calm);
    assert_eq!(calm.broken(60_000), ["duplicate"]);
    let stormy = plain().fault(Deed::Broker(Fault::Pause), 31, 500);
    again(&stormy);
    assert_eq!(stormy.broken(60_000), NOTHING);
}

#[test]
fn what_comes_late_needs_a_fault_that_is_not_over_for_long() {
    let comes_at = |script: Script, at| {
        script.came(1, at - 10, at, 1);
        script.settled(1, at, Word::Ack, Ended::Applied);
        script.broken(60_000)
    };
    assert_eq!(comes_at(plain(), 2_000), NOTHING);
    assert_eq!(comes_at(plain(), 2_020), ["late"]);
    let healed = || plain().fault(Deed::Broker(Fault::Pause), 15, 1_000);
    assert_eq!(comes_at(healed(), 5_900), NOTHING);
    assert_eq!(comes_at(healed(), 6_010), ["late", "silent"]);
}

#[test]
fn an_error_that_does_not_pass_is_told() {
    let script = plain();
    script.came(1, 0, 20, 1);
    script.settled(1, 30, Word::Ack, Ended::Applied);
    script.note(40, What::Trouble { error: "publish: denied".into() });
    assert_eq!(script.broken(60_000), ["error"]);
}
