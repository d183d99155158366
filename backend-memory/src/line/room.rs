//! Publishes that wait for room: the oldest are woken first, as many as there is room for.

use std::collections::BTreeSet;

use polyqueue::Overflow;

use super::Line;
use super::waiting::Ticket;
use crate::clock::At;
use crate::mutants::{Bug, planted};

/// Publishes that wait for room.
#[derive(Debug, Default)]
pub(super) struct Blocked {
    tickets: BTreeSet<Ticket>,
    /// When the first of them wakes by itself, for something expires then.
    armed: Option<At>,
}

impl Line {
    /// A publish waits until it is woken, at the latest until what is answered: then something expires, which makes room.
    pub(crate) fn await_room(&mut self, ticket: Ticket) -> Option<At> {
        self.blocked.tickets.insert(ticket);
        self.blocked.armed = self.expiry.next().map(|next| next.0);
        self.blocked.armed
    }

    /// A publish waits no more.
    pub(crate) fn stop_awaiting(&mut self, ticket: Ticket) {
        self.blocked.tickets.remove(&ticket);
    }

    /// The publishes to wake when a call is over.
    pub(super) fn roused(&mut self) -> Vec<Ticket> {
        if self.blocked.tickets.is_empty() || planted(Bug::RoomWakesNobody) {
            return Vec::new();
        }
        let next = self.expiry.next().map(|next| next.0);
        let sooner = next.is_some_and(|next| self.blocked.armed.is_none_or(|armed| next < armed));
        let room = match self.bound {
            _ if self.deleted || sooner => usize::MAX,
            Some(bound) if bound.overflow == Overflow::Block => {
                usize::try_from(bound.max_len).unwrap_or(usize::MAX).saturating_sub(self.ready.len())
            }
            _ => usize::MAX,
        };
        self.blocked.tickets.iter().take(room).copied().collect()
    }
}
