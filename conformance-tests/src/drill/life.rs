//! What is known of one message.

use std::fmt;
use std::time::Duration;

use super::entry::{Ended, Handout, Told, Word};
use super::task::Task;

/// What is known of one message.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// How it was published; `None` until that is known.
    pub(super) sent: Option<Sent>,
    /// The answer to its publish, and when it came.
    pub(super) told: Option<(Duration, Told)>,
    /// In the order in which they came.
    pub(super) holds: Vec<Hold>,
    /// When somebody began to send it round again.
    pub(super) redrives: Vec<Duration>,
    /// It was seen among the dead letters, last time when anybody looked.
    pub(super) buried: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) producer: usize,
    pub(super) at: Duration,
    pub(super) queue: usize,
    pub(super) delay: Duration,
    pub(super) task: Task,
}

/// One hand-out, and what its holder did with it.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) came: Duration,
    pub(super) handout: Handout,
    pub(super) given: Option<Given>,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Handout { consumer, queue, attempt, asked, until, .. } = &self.handout;
        write!(
            f,
            "attempt {attempt} at consumer {consumer} of drill-{queue} (asked for at {asked:?}, came at {:?}, its lease until {until:?}",
            self.came
        )?;
        match self.given {
            Some(given) => write!(f, ", {:?} given at {:?}, answer {:?})", given.word, given.at, given.told),
            None => write!(f, ", no verdict)"),
        }
    }
}

/// A verdict; without an answer it may have any effect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub(super) at: Duration,
    pub(super) word: Word,
    pub(super) told: Option<(Duration, Ended)>,
}

impl Given {
    fn answer(&self) -> Option<Ended> {
        self.told.map(|(_, told)| told)
    }

    pub(super) fn may_have_taken_effect(&self) -> bool {
        !matches!(self.answer(), Some(Ended::LeaseLost | Ended::Refused))
    }

    /// Whether it surely ended the message's life.
    pub(super) fn is_last(&self) -> bool {
        match self.answer() {
            Some(Ended::Died) => true,
            Some(Ended::Applied) => !matches!(self.word, Word::Retry { .. }),
            _ => false,
        }
    }

    /// The wait of a retry that may have taken effect.
    pub(super) fn may_wait(&self) -> Option<Duration> {
        match self.word {
            Word::Retry { after } if self.may_have_taken_effect() => Some(after),
            _ => None,
        }
    }

    /// The wait of a retry that surely took effect.
    pub(super) fn waits(&self) -> Option<Duration> {
        match (self.word, self.answer()) {
            (Word::Retry { after }, Some(Ended::Applied)) => Some(after),
            _ => None,
        }
    }
}

impl Life {
    pub(super) fn is_stored(&self) -> bool {
        matches!(self.told, Some((_, Told::Stored)))
    }

    /// Whether it may have come to its end by an ack.
    pub(super) fn may_be_acked(&self) -> bool {
        let acks = self.holds.iter().filter_map(|hold| hold.given).filter(|given| given.word == Word::Ack);
        acks.into_iter().any(|given| given.may_have_taken_effect())
    }

    /// All that is known of it, a line each.
    pub(super) fn lines(&self) -> Vec<String> {
        let sent =
            self.sent.map(|sent| format!("published at {:?} with a delay of {:?}", sent.at, sent.delay));
        let told = self.told.map(|(at, told)| format!("answer {told:?} at {at:?}"));
        let holds = self.holds.iter().map(Hold::to_string);
        let redrives = self.redrives.iter().map(|at| format!("redriven at {at:?}"));
        let buried = self.buried.then(|| "a dead letter at the end".to_owned());
        sent.into_iter().chain(told).chain(holds).chain(redrives).chain(buried).collect()
    }

    /// Whether it must still come to its end.
    pub(super) fn is_outstanding(&self) -> bool {
        self.is_stored() && !self.may_be_acked() && !self.buried
    }

    pub(super) fn redriven_between(&self, from: Duration, to: Duration) -> bool {
        self.redrives.iter().any(|at| (from..=to).contains(at))
    }

    /// Whether a hand-out was left without a verdict because the message wants it so.
    pub(super) fn wants_no_verdict(&self, hold: &Hold) -> bool {
        let task = self.sent.map(|sent| sent.task);
        task == Some(Task::Abandon) && hold.handout.attempt == 1
    }
}
