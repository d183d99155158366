//! What happened to one message in one queue.

use std::time::Duration;

use polyqueue::{Certainty, Extended, MessageId, Reschedule, Settled, Verdict};
use tokio::time::Instant;

use super::span::Span;
use crate::history::{Answer, Dead, Handout, Reader, Sent, Stamp};

/// What happened to one message in one queue.
#[derive(Debug, Default)]
pub(in crate::check) struct Life<'a> {
    pub(in crate::check) publishes: Vec<Publish<'a>>,
    /// In the order in which they happened.
    pub(in crate::check) holds: Vec<Hold<'a>>,
    pub(in crate::check) deaths: Vec<Seen<'a>>,
    pub(in crate::check) redrives: Vec<Span>,
    pub(in crate::check) moves: Vec<Move>,
}

/// What became of one message of one publish, in one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::check) enum Fate<'a> {
    Stored,
    /// It is there or not, and that is decided: a binding or a dedup key that nobody can tell.
    Perhaps,
    /// Nothing was stored, for this message has its dedup key.
    Duplicate(&'a MessageId),
    Refused,
    Unknown,
}

impl Fate<'_> {
    /// Whether it may have been stored.
    pub(in crate::check) fn may_be_stored(&self) -> bool {
        matches!(self, Fate::Stored | Fate::Perhaps | Fate::Unknown)
    }
}

#[derive(Debug)]
pub(in crate::check) struct Publish<'a> {
    pub(in crate::check) span: Span,
    pub(in crate::check) sent: &'a Sent,
    pub(in crate::check) fate: Fate<'a>,
    /// Its place in its batch.
    pub(in crate::check) index: usize,
}

impl Publish<'_> {
    /// Before this it cannot expire.
    pub(in crate::check) fn lives_until(&self) -> Option<Instant> {
        Some(self.span.inv.at + self.sent.envelope.ttl()?)
    }
}

/// One hand-out and what its holder did with it.
#[derive(Debug)]
pub(in crate::check) struct Hold<'a> {
    pub(in crate::check) consumer: u64,
    pub(in crate::check) reader: Option<Reader>,
    pub(in crate::check) inv: Stamp,
    pub(in crate::check) ret: Stamp,
    pub(in crate::check) handout: &'a Handout,
    pub(in crate::check) verdicts: Vec<Given<'a>>,
    pub(in crate::check) extensions: Vec<(Span, Answer<Extended>)>,
    /// When its consumer or its client ended, which may end the lease.
    pub(in crate::check) ended: Option<Stamp>,
}

#[derive(Debug)]
pub(in crate::check) struct Given<'a> {
    pub(in crate::check) span: Span,
    pub(in crate::check) verdict: &'a Verdict,
    pub(in crate::check) answer: Answer<Settled>,
}

impl Given<'_> {
    pub(in crate::check) fn took_effect(&self) -> bool {
        matches!(self.answer, Some(Ok(Settled::Applied | Settled::Died)))
    }

    /// Whether it may have had an effect.
    pub(in crate::check) fn may_have(&self) -> bool {
        self.took_effect() || matches!(self.answer, None | Some(Err(Certainty::Unknown)))
    }

    /// Whether it ended the message's life.
    pub(in crate::check) fn is_last(&self) -> bool {
        match self.answer {
            Some(Ok(Settled::Died)) => true,
            Some(Ok(Settled::Applied)) => matches!(self.verdict, Verdict::Ack | Verdict::DeadLetter { .. }),
            _ => false,
        }
    }
}

impl<'a> Hold<'a> {
    /// The verdict that took effect.
    pub(in crate::check) fn settled(&self) -> Option<&Given<'a>> {
        self.verdicts.iter().find(|given| given.took_effect())
    }

    /// Until when the holder was told that the message is its own.
    pub(in crate::check) fn promised(&self) -> Instant {
        let told = self.extensions.iter().filter_map(|(_, answer)| match answer {
            Some(Ok(Extended::Until(until))) => Some(*until),
            _ => None,
        });
        told.fold(self.handout.lease_until, Instant::max)
    }

    /// When its lease ended at the latest, if nobody settled it; `None` when that cannot be said.
    pub(in crate::check) fn lease_over(&self) -> Option<Instant> {
        let lease = self.reader?.lease;
        let mut over = self.ret.at + lease;
        for (span, answer) in &self.extensions {
            match answer {
                Some(Ok(Extended::Until(_))) => over = over.max(span.ret?.at + lease),
                Some(Ok(Extended::LeaseLost) | Err(Certainty::Definite)) => {}
                None | Some(Err(Certainty::Unknown)) => return None,
            }
        }
        Some(over)
    }

    /// Whether a verdict that was begun before that moment may have ended its hold.
    pub(in crate::check) fn maybe_settled_before(&self, moment: Stamp) -> bool {
        self.verdicts.iter().any(|given| given.may_have() && given.span.inv.seq < moment.seq)
    }

    /// Whether a `Release` undid the attempt.
    pub(in crate::check) fn released(&self) -> bool {
        self.settled().is_some_and(|given| matches!(given.verdict, Verdict::Release { .. }))
    }
}

/// A dead letter in a listing.
#[derive(Debug)]
pub(in crate::check) struct Seen<'a> {
    pub(in crate::check) inv: Stamp,
    pub(in crate::check) ret: Stamp,
    pub(in crate::check) dead: &'a Dead,
}

/// Its time was changed, or may have been.
#[derive(Clone, Copy, Debug)]
pub(in crate::check) struct Move {
    pub(in crate::check) span: Span,
    pub(in crate::check) to: Reschedule,
    /// It surely took effect.
    pub(in crate::check) sure: bool,
}

impl<'a> Life<'a> {
    /// Whether it was sent once: of two messages with one id nobody can tell which is which.
    pub(in crate::check) fn single(&self) -> Option<&Publish<'a>> {
        let mut sent = self.publishes.iter().filter(|publish| publish.fate.may_be_stored());
        sent.next().filter(|_| sent.next().is_none())
    }

    pub(in crate::check) fn first(&self) -> Option<&Hold<'a>> {
        self.holds.first()
    }

    /// Whether it may have been redriven before that moment.
    pub(in crate::check) fn redriven_before(&self, moment: Stamp) -> bool {
        self.redrives.iter().any(|span| span.inv.seq < moment.seq)
    }

    /// Whether its time may have been changed before that moment.
    pub(in crate::check) fn moved_before(&self, moment: Stamp) -> bool {
        self.moves.iter().any(|it| it.span.inv.seq < moment.seq)
    }

    /// Whether its time to live may have ended before that moment.
    pub(in crate::check) fn may_expire_before(&self, moment: Instant) -> bool {
        let sent = self.publishes.iter().filter(|publish| publish.fate.may_be_stored());
        sent.filter_map(Publish::lives_until).any(|end| end <= moment)
    }

    /// The earliest moment at which a hand-out may have been due: its delay has passed, or what changed it.
    pub(in crate::check) fn due(&self, hold: &Hold<'_>) -> Option<Instant> {
        let mut moves: Vec<&Move> = self.moves.iter().filter(|it| it.span.inv.seq < hold.ret.seq).collect();
        moves.sort_by_key(|it| it.span.inv.seq);
        let when = |it: &Move| match it.to {
            Reschedule::After(delay) => it.span.inv.at + delay,
            Reschedule::Cancel => it.span.inv.at + FOR_GOOD,
        };
        if let Some((last, before)) = moves.split_last()
            && last.sure
            && last.span.before(hold.inv)
            && before.iter().all(|it| it.span.before(last.span.inv))
            && self.publishes.iter().all(|it| it.span.before(last.span.inv))
        {
            return Some(when(last));
        }
        let sent = self.publishes.iter().filter(|publish| publish.fate.may_be_stored());
        let published = sent.map(|publish| publish.span.inv.at + publish.sent.delay);
        published.chain(moves.into_iter().map(when)).min()
    }
}

/// Longer than any run: what is cancelled is never due.
const FOR_GOOD: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
