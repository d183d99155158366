//! What happened in one queue.

use std::num::NonZeroU32;

use polyqueue::{Overflow, Purge, QueueSpec};

use super::span::Span;
use crate::history::{Handout, Reader, Stamp};

/// What happened in one queue.
#[derive(Debug, Default)]
pub(in crate::check) struct Line<'a> {
    /// What it was declared to be, or may have been.
    pub(in crate::check) specs: Vec<&'a QueueSpec>,
    pub(in crate::check) readers: Vec<Reader>,
    pub(in crate::check) receives: Vec<Receive<'a>>,
    pub(in crate::check) deletes: Vec<Span>,
    pub(in crate::check) purges: Vec<(Span, Purge)>,
    /// Dead letters were redriven or discarded whose messages the history does not know.
    pub(in crate::check) blind: bool,
    /// Calls after which somebody else may hold messages unseen: receives that were dropped or failed.
    pub(in crate::check) hidden: Vec<Span>,
    /// When consumers of it ended.
    pub(in crate::check) ends: Vec<Stamp>,
    pub(in crate::check) drained: Option<Stamp>,
}

#[derive(Debug)]
pub(in crate::check) struct Receive<'a> {
    pub(in crate::check) inv: Stamp,
    pub(in crate::check) ret: Stamp,
    pub(in crate::check) max: usize,
    pub(in crate::check) came: &'a [Handout],
}

impl Receive<'_> {
    /// Whether it brought nothing although it asked.
    pub(in crate::check) fn came_empty(&self) -> bool {
        self.max > 0 && self.came.is_empty()
    }
}

impl Line<'_> {
    /// Whether somebody may hold messages that no handler has in hand.
    pub(in crate::check) fn parks(&self) -> bool {
        self.readers.iter().any(|reader| reader.prefetch > 0)
    }

    /// Whether what is ready may be thrown out to make room.
    pub(in crate::check) fn overflows(&self) -> bool {
        let drops = |spec: &&QueueSpec| spec.bound.is_some_and(|it| it.overflow == Overflow::DropOldest);
        self.specs.iter().any(drops)
    }

    /// Whether a receive with an unseen end began before that moment.
    pub(in crate::check) fn hidden_before(&self, moment: Stamp) -> bool {
        self.hidden.iter().any(|span| span.inv.seq < moment.seq)
    }

    /// Whether waiting messages may have been removed by somebody before that moment.
    pub(in crate::check) fn emptied_before(&self, moment: Stamp) -> bool {
        let purges = self.purges.iter().filter(|(_, what)| *what == Purge::Waiting).map(|(span, _)| span);
        purges.chain(&self.deletes).any(|span| span.inv.seq < moment.seq)
    }

    /// The maximum of attempts of a message of its own, or that which all readers agree about.
    pub(in crate::check) fn agreed_max(&self, own: Option<NonZeroU32>) -> Option<u32> {
        let agree = || self.readers.windows(2).all(|pair| pair[0].max_attempts == pair[1].max_attempts);
        let theirs = || self.readers.first().filter(|_| agree()).map(|reader| reader.max_attempts);
        Some(own.or_else(theirs)?.get())
    }

    /// The largest maximum of attempts that anybody has.
    pub(in crate::check) fn largest_max(&self, own: Option<NonZeroU32>) -> Option<u32> {
        Some(own.or_else(|| self.readers.iter().map(|reader| reader.max_attempts).max())?.get())
    }
}
