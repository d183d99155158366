//! What is in somebody's hands: each hand-out has its own token and a lease that ends.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::num::NonZeroU32;

use polyqueue::Settled;

use super::item::Item;
use crate::clock::At;
use crate::mutants::{Bug, planted, rare};
use crate::receipt::{ReaderId, Stub, Token};

/// One message in somebody's hands.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) item: Box<Item>,
    pub(super) reader: ReaderId,
    /// The maximum of attempts, fixed at the hand-out.
    pub(super) max: NonZeroU32,
    pub(super) since: At,
    pub(super) until: At,
    extended: bool,
}

impl Held {
    pub(super) fn new(item: Box<Item>, reader: ReaderId, max: NonZeroU32, since: At, until: At) -> Self {
        Self { item, reader, max, since, until, extended: false }
    }
}

/// What is in somebody's hands.
#[derive(Debug, Default)]
pub(super) struct Flight {
    held: HashMap<Token, Held>,
    ends: BTreeSet<(At, Token)>,
    /// Settled ones whose lease was extended, until it would have ended: their receipts do not know that end.
    settled: HashSet<Token>,
    forget: BTreeSet<(At, Token)>,
}

impl Flight {
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn hold(&mut self, token: Token, held: Held) {
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
    pub(super) fn release(&mut self, token: Token) -> Option<Held> {
        let held = self.held.remove(&token)?;
        self.ends.remove(&(held.until, token));
        Some(held)
    }

    /// Remembers that a verdict was given, as long as the lease would have run.
    pub(super) fn remember(&mut self, token: Token, held: &Held) {
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

    pub(super) fn forget(&mut self, now: At) {
        while let Some(&(until, token)) = self.forget.first()
            && until <= now
        {
            self.forget.pop_first();
            self.settled.remove(&token);
        }
    }

    /// What to say about a token that is not held: whether its lease would still run tells settled from lost.
    pub(super) fn missing(&self, stub: Stub, now: At) -> Settled {
        match stub.until > now || self.settled.contains(&stub.token) {
            true if planted(Bug::SecondVerdict) => Settled::Applied,
            true => Settled::AlreadySettled,
            false => Settled::LeaseLost,
        }
    }

    /// Everything, leaving nothing.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Box<Item>> {
        std::mem::take(self).held.into_values().map(|held| held.item)
    }

    #[cfg(polyqueue_mutants)]
    pub(super) fn holding(&self, wanted: impl Fn(&Item) -> bool) -> Option<Token> {
        self.held.iter().find(|(_, held)| wanted(&held.item)).map(|(token, _)| *token)
    }
}
