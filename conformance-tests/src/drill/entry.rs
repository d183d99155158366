//! What producers and consumers write down, on one clock.

use std::time::Duration;

use polyqueue::{Certainty, Error, Settled, Verdict};
use serde::{Deserialize, Serialize};

use super::task::Task;

/// One line of a journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Since the drill began.
    pub(super) at: Duration,
    pub(super) what: What,
}

/// What happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum What {
    /// A publish begins.
    Publishing {
        producer: usize,
        id: String,
        queue: usize,
        delay: Duration,
        task: Task,
    },
    Published {
        id: String,
        told: Told,
    },
    Came(Handout),
    /// A verdict begins.
    Settling {
        hold: u64,
        word: Word,
    },
    Settled {
        hold: u64,
        told: Ended,
    },
    /// A dead letter is sent round again.
    Redriving {
        id: String,
    },
    /// A call failed in a way that does not pass by itself, or that no caller can understand.
    Trouble {
        error: String,
    },
}

/// One hand-out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Handout {
    /// Names it: no other hand-out of the drill has it.
    pub(super) hold: u64,
    pub(super) consumer: usize,
    pub(super) queue: usize,
    pub(super) id: String,
    pub(super) attempt: u32,
    /// When the receive that brought it was called.
    pub(super) asked: Duration,
    /// The end of the lease, as the client was told.
    pub(super) until: Duration,
}

/// What a publish was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Told {
    Stored,
    Refused,
    Unknown,
}

/// A verdict, without its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Word {
    Ack,
    Retry { after: Duration },
    Reject,
}

/// What a verdict was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ended {
    Applied,
    Died,
    AlreadySettled,
    LeaseLost,
    Refused,
    Unknown,
}

impl Told {
    pub(super) fn of(error: &Error) -> Self {
        match error.certainty() {
            Certainty::Definite => Self::Refused,
            Certainty::Unknown => Self::Unknown,
        }
    }
}

impl Word {
    pub(super) fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Ack => Self::Ack,
            Verdict::Retry { after, .. } | Verdict::Release { after } => Self::Retry { after: *after },
            Verdict::DeadLetter { .. } => Self::Reject,
        }
    }
}

impl Ended {
    pub(super) fn of(answer: &polyqueue::Result<Settled>) -> Self {
        match answer {
            Ok(Settled::Applied) => Self::Applied,
            Ok(Settled::Died) => Self::Died,
            Ok(Settled::AlreadySettled) => Self::AlreadySettled,
            Ok(Settled::LeaseLost) => Self::LeaseLost,
            Err(error) => match error.certainty() {
                Certainty::Definite => Self::Refused,
                Certainty::Unknown => Self::Unknown,
            },
        }
    }
}
