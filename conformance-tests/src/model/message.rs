//! A message as the model knows it, and where it is.

use polyqueue::Message;
use tokio::time::Instant;

use crate::history::Envelope;

/// A call's begin and end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) inv: Instant,
    pub(super) ret: Instant,
}

/// Between these two moments something happens by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    pub(super) from: Instant,
    pub(super) by: Instant,
}

/// How a message became ready.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// Published without delay.
    Fresh,
    /// Its delay passed.
    Due,
    /// It was in somebody's hands, or dead, before.
    Again,
}

/// A message that could be handed out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) kind: Kind,
    /// At which turn it became ready: the first and the last that may have been.
    pub(super) turns: (u64, u64),
    pub(super) due: Option<Window>,
    pub(super) since: Instant,
}

/// A message in somebody's hands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) delivery: usize,
    /// The lease does not end before `from`, and has ended at `over`; by `by` the broker has noticed.
    pub(super) from: Instant,
    pub(super) over: Instant,
    pub(super) by: Instant,
    pub(super) extended: bool,
}

/// Where a message is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Ready(Ready),
    Delayed(Window, Kind),
    InFlight(Lease),
    Dead,
    Gone,
}

/// A message and what the queue must know about it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) sent: Message,
    pub(super) envelope: Envelope,
    pub(super) max: u32,
    /// Hand-outs of this life that count, and of the lives before.
    pub(super) attempts: u32,
    pub(super) earlier: u32,
    pub(super) redriven: u32,
    pub(super) retries: u32,
    pub(super) last_error: Option<String>,
    pub(super) holder: Option<usize>,
    pub(super) place: Place,
    /// When it expires, unless somebody has it in hand then.
    pub(super) expires: Option<Window>,
}

impl Known {
    /// Whether it has expired by then, if nobody has it in hand.
    pub(super) fn expires_by(&self, moment: Instant) -> bool {
        self.expires.is_some_and(|end| end.by <= moment)
    }
}

/// What the model calls a message in its texts.
pub(super) fn name(at: usize) -> String {
    format!("message {}", at + 1)
}
