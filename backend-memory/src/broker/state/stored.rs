//! A stored message and what the queue knows about it.

use std::num::NonZeroU32;
use std::sync::Arc;

use polyqueue::{Bytes, Message};

#[cfg(polyqueue_mutants)]
use super::ids::Token;
use crate::broker::budget::Reservation;
use crate::broker::clock::At;
use crate::mutants::{Bug, planted};

/// A stored message and what the queue knows about it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) message: Arc<Message>,
    /// Whether it is a message at all; else only its payload counts: the bytes that stand where one should be.
    pub(crate) readable: bool,
    /// Hand-outs of this life that count.
    pub(super) attempts: u32,
    /// The greatest maximum under which one of them failed.
    pub(super) allowed: u32,
    /// Attempts of the lives before the last redrive.
    pub(super) earlier: u32,
    pub(super) redriven: u32,
    /// The name of the consumer that held it last.
    pub(super) holder: Option<Arc<str>>,
    /// Its place among those that wait with it, and since when it has been ready.
    pub(super) place: u64,
    pub(super) ready_since: At,
    /// When its time to live ends.
    pub(super) expires: At,
    pub(crate) room: Reservation,
    /// The tokens of its earlier hand-outs: only bugs need them.
    #[cfg(polyqueue_mutants)]
    pub(super) past: Vec<Token>,
}

impl Stored {
    /// A message that was never handed out.
    pub(crate) fn new(message: impl Into<Arc<Message>>, room: Reservation) -> Box<Self> {
        Box::new(Self {
            message: message.into(),
            readable: true,
            attempts: 0,
            allowed: 0,
            earlier: 0,
            redriven: 0,
            holder: None,
            place: 0,
            ready_since: At::default(),
            expires: At::NEVER,
            room,
            #[cfg(polyqueue_mutants)]
            past: Vec::new(),
        })
    }

    /// Attempts of all its lives.
    pub(super) fn all_attempts(&self) -> u32 {
        self.earlier.saturating_add(self.attempts)
    }

    /// An attempt failed that was held to this maximum: who allows fewer does not bury what others would try again.
    pub(super) fn failed_under(&mut self, max: NonZeroU32) {
        self.allowed = self.allowed.max(max.get());
    }

    /// Its time to live, where it has one, begins now.
    pub(super) fn live_from(&mut self, now: At) {
        self.expires = self.message.ttl().map_or(At::NEVER, |ttl| now.plus(ttl));
    }

    /// Whether its time to live has ended by then.
    pub(super) fn is_expired(&self, at: At) -> bool {
        self.expires <= at && !planted(Bug::TtlIgnored)
    }

    /// Bytes that stand where a message should be.
    pub(crate) fn unreadable(bytes: Bytes, room: Reservation) -> Box<Self> {
        let mut item = Self::new(Message::new(bytes), room);
        item.readable = false;
        item
    }
}
