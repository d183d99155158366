//! What is in somebody's hands: each hand-out has its own token and a lease that ends.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use polyqueue::Settled;

use super::ids::{ById, ConsumerId, Ids, ReceiptParts, Token};
use super::removed::Index;
use super::stored::Stored;
use crate::broker::clock::At;
use crate::mutants::{Bug, planted, rare};

/// One message in somebody's hands.
#[derive(Debug)]
pub(super) struct Leased {
    pub(super) item: Box<Stored>,
    pub(super) consumer: ConsumerId,
    /// The maximum of attempts, fixed at the hand-out.
    pub(super) max: NonZeroU32,
    pub(super) since: At,
    pub(super) until: At,
    extended: bool,
}

impl Leased {
    pub(super) fn new(
        item: Box<Stored>,
        consumer: ConsumerId,
        max: NonZeroU32,
        since: At,
        until: At,
    ) -> Self {
        Self { item, consumer, max, since, until, extended: false }
    }
}

/// What is in somebody's hands.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    held: ById<Token, Leased>,
    ends: BTreeSet<(At, Token)>,
    /// Settled ones whose lease was extended, until it would have ended: their receipts do not know that end.
    settled: Ids<Token>,
    forget: BTreeSet<(At, Token)>,
}

impl InFlight {
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn hold(&mut self, token: Token, held: Leased) {
        if !(planted(Bug::RarelyUnleased) && rare(token.0)) {
            self.ends.insert((held.until, token));
        }
        self.held.insert(token, held);
    }

    /// The next end of a lease.
    pub(super) fn next_end(&self) -> Option<(At, Token)> {
        self.ends.first().copied()
    }

    /// Takes a message out of its holder's hands; `None` when they do not hold it any more.
    pub(super) fn release(&mut self, token: Token) -> Option<Leased> {
        let held = self.held.remove(&token)?;
        self.ends.remove(&(held.until, token));
        Some(held)
    }

    /// Remembers that a verdict was given, as long as the lease would have run.
    pub(super) fn remember(&mut self, token: Token, held: &Leased) {
        if held.extended {
            self.settled.insert(token);
            self.forget.insert((held.until, token));
        }
    }

    pub(super) fn extend(&mut self, token: Token, until: At) -> bool {
        let Some(held) = self.held.get_mut(&token) else { return false };
        if planted(Bug::ExtendDoesNothing) {
            return true;
        }
        self.ends.remove(&(held.until, token));
        self.ends.insert((until, token));
        held.until = until;
        held.extended = true;
        true
    }

    /// Forgets the first that was remembered if its lease would have ended; whether it would.
    pub(super) fn forget_first(&mut self, now: At) -> bool {
        let Some(&first) = self.forget.first().filter(|first| first.0 <= now) else { return false };
        self.forget.remove(&first);
        self.settled.remove(&first.1);
        true
    }

    /// What to say about a token that is not held: whether its lease would still run tells settled from lost.
    pub(super) fn missing(&self, receipt_parts: ReceiptParts, now: At) -> Settled {
        match receipt_parts.until > now || self.settled.contains(&receipt_parts.token) {
            true if planted(Bug::SecondVerdict) => Settled::Applied,
            true => Settled::AlreadySettled,
            false => Settled::LeaseLost,
        }
    }

    /// Everything, leaving nothing, and by what its ends were known.
    pub(super) fn drain(&mut self) -> (impl Iterator<Item = Box<Stored>> + use<>, impl Index + use<>) {
        let Self { held, ends, settled, forget } = std::mem::take(self);
        (held.into_values().map(|held| held.item), (ends, settled, forget))
    }

    #[cfg(polyqueue_mutants)]
    pub(super) fn holding(&self, wanted: impl Fn(&Stored) -> bool) -> Option<Token> {
        self.held.iter().find(|(_, held)| wanted(&held.item)).map(|(token, _)| *token)
    }
}
