//! Handing out: to a receive that comes, or to the oldest that waits.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{DeadReason, Message, Subscription};

use super::Line;
use super::expiry::Spot;
use super::flight::Held;
use super::item::Item;
use super::waiting::{Answer, Ask, Ticket};
use crate::clock::At;
#[cfg(polyqueue_mutants)]
use crate::mutants::rare;
use crate::mutants::{Bug, planted};
use crate::receipt::{ReaderId, Stub, Token};

/// What the error of a dead letter says that was no message.
const UNREADABLE: &str = "these bytes are no message";

/// A message on its way into somebody's hands.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) message: Message,
    pub(crate) attempt: u32,
    pub(crate) stub: Stub,
}

/// What a receive is told when it comes.
#[derive(Debug)]
pub(crate) enum Asked {
    /// This much, now.
    Handed(Vec<Handed>),
    /// Nothing yet.
    Wait(Ticket),
}

/// A consumer, as its queue knows it.
#[derive(Debug)]
pub(super) struct Reader {
    name: Arc<str>,
    lease: Duration,
    max_attempts: NonZeroU32,
    prefetch: usize,
    held: usize,
    tickets: Vec<Ticket>,
    closed: bool,
}

impl Reader {
    pub(super) fn new(subscription: &Subscription) -> Self {
        Self {
            name: subscription.consumer.as_str().into(),
            lease: subscription.lease,
            max_attempts: subscription.max_attempts,
            prefetch: subscription.prefetch,
            held: 0,
            tickets: Vec::new(),
            closed: false,
        }
    }

    pub(super) fn lease(&self) -> Duration {
        self.lease
    }

    fn room(&self) -> usize {
        if self.prefetch == 0 { usize::MAX } else { self.prefetch.saturating_sub(self.held) }
    }
}

/// The lesser of what the message and what the subscription allow: the message's own wins.
fn max_attempts(message: &Message, reader: &Reader) -> NonZeroU32 {
    match message.max_attempts() {
        Some(own) if !planted(Bug::MessageMaxIgnored) => own,
        _ => reader.max_attempts,
    }
}

/// Whether no attempt is left.
pub(super) fn is_used_up(attempts: u32, max: NonZeroU32) -> bool {
    if planted(Bug::AttemptTooMany) {
        return attempts > max.get();
    }
    if planted(Bug::BuriedEarly) {
        return attempts + 1 >= max.get();
    }
    attempts >= max.get()
}

impl Line {
    /// Up to `max` messages now; a ticket when there is none and the receive wants to wait.
    pub(crate) fn ask(&mut self, reader: ReaderId, max: usize, wait: bool) -> Asked {
        if planted(Bug::PollTakesDelayed) && !wait && self.ready.is_empty() {
            self.promote_first();
        }
        let handed = self.take(reader, max);
        match self.readers.get_mut(&reader) {
            Some(known) if handed.is_empty() && wait && !known.closed => {
                let ticket = self.waiting.enter(Ask { reader, max }, known.room() > 0);
                known.tickets.push(ticket);
                Asked::Wait(ticket)
            }
            _ => Asked::Handed(handed),
        }
    }

    /// The answer to a receive that waits; `None` while there is none.
    pub(crate) fn fetch(&mut self, ticket: Ticket) -> Option<Answer> {
        self.waiting.fetch(ticket)
    }

    /// Until when a receive that waits may sleep, unless it is woken. Only the oldest keeps the time.
    pub(crate) fn keep_time(&mut self, ticket: Ticket) -> Option<At> {
        let due = self.next_due();
        self.waiting.keep_time(ticket, due)
    }

    /// A receive gave up. What it was handed and never fetched goes back to where it was, its attempt unburned.
    pub(crate) fn cancel(&mut self, ticket: Ticket) {
        if let Some(ask) = self.waiting.leave(ticket) {
            self.drop_ticket(ask.reader, ticket);
        }
        let Some(Answer::Handed(handed)) = self.waiting.fetch(ticket) else { return };
        for handed in handed {
            let Some(mut held) = self.flight.release(handed.stub.token) else { continue };
            held.item.attempts -= 1;
            self.vacate(held.reader);
            if planted(Bug::DropLoses) {
                self.trash.push(held.item);
                continue;
            }
            self.put_back(held.item);
        }
        self.serve();
    }

    fn put_back(&mut self, item: Box<Item>) {
        if item.is_expired(self.now) {
            return self.bury_expired(*item, self.now);
        }
        self.expiry.watch(&item, Spot::Ready(item.message.priority()));
        self.ready.put_back(item);
    }

    /// Serves those who wait, oldest first, as long as there is something for them.
    pub(super) fn serve(&mut self) {
        while !self.ready.is_empty()
            && let Some((ticket, ask)) = self.waiting.next_open()
        {
            let handed = self.take(ask.reader, ask.max);
            if !handed.is_empty() {
                self.drop_ticket(ask.reader, ticket);
                self.waiting.answer(ticket, Answer::Handed(handed));
            }
        }
    }

    fn drop_ticket(&mut self, reader: ReaderId, ticket: Ticket) {
        if let Some(reader) = self.readers.get_mut(&reader) {
            reader.tickets.retain(|&other| other != ticket);
        }
    }

    /// Up to `max` messages, as long as the consumer has room for them.
    fn take(&mut self, id: ReaderId, max: usize) -> Vec<Handed> {
        // Out of the map, so that the rest of the queue can be changed meanwhile.
        let Some(mut reader) = self.readers.remove(&id) else { return Vec::new() };
        let max = if reader.closed { 0 } else { max.min(reader.room()) };
        let max = max.saturating_add(usize::from(planted(Bug::OverCap) && max > 0));
        let mut handed = Vec::with_capacity(max.min(self.ready.len()));
        while handed.len() < max
            && let Some(item) = self.ready.pop()
        {
            self.expiry.unwatch(&item);
            handed.extend(self.hand_out(item, id, &reader));
        }
        reader.held += handed.len();
        if reader.room() == 0 {
            reader.tickets.iter().for_each(|&ticket| self.waiting.set_open(ticket, false));
        }
        self.readers.insert(id, reader);
        if planted(Bug::BatchReversed) {
            handed.reverse();
        }
        handed
    }

    /// `None` when it dies instead: it is no message, or has no attempt left under the maximum that holds here.
    fn hand_out(&mut self, mut item: Box<Item>, id: ReaderId, reader: &Reader) -> Option<Handed> {
        if !item.readable {
            self.bury(*item, DeadReason::Undecodable, UNREADABLE.into(), self.now);
            return None;
        }
        let max = max_attempts(&item.message, reader);
        if item.attempts > 0 && is_used_up(item.attempts, max) {
            let error = item.message.last_error().unwrap_or("no attempt is left").to_owned();
            self.bury(*item, DeadReason::MaxAttempts, error, self.now);
            return None;
        }
        let token = Token(self.number());
        #[cfg(polyqueue_mutants)]
        self.hand_out_wrongly(&mut item, token);
        item.attempts += 1;
        item.holder = Some(reader.name.clone());
        let until = self.now.plus(reader.lease);
        let stub = Stub { reader: id, token, until };
        let handed = Handed { message: item.message.clone(), attempt: item.attempts, stub };
        self.flight.hold(token, Held::new(item, id, max, self.now, until));
        Some(handed)
    }

    #[cfg(polyqueue_mutants)]
    fn hand_out_wrongly(&mut self, item: &mut Item, token: Token) {
        item.past.push(token);
        if planted(Bug::RarelyTwice)
            && rare(token.0)
            && let Ok(room) = item.room.another(&item.message)
        {
            let twin = Item::new(item.message.clone(), room);
            self.make_ready(twin, self.now);
        }
    }

    /// A consumer holds one message less, and may be served again.
    pub(super) fn vacate(&mut self, id: ReaderId) {
        let Some(reader) = self.readers.get_mut(&id) else { return };
        let had_none = reader.room() == 0;
        reader.held = reader.held.saturating_sub(1);
        if had_none {
            reader.tickets.iter().for_each(|&ticket| self.waiting.set_open(ticket, true));
        }
    }

    /// A consumer is closed: its receives end, and later ones bring nothing.
    pub(crate) fn close_reader(&mut self, id: ReaderId) {
        if let Some(reader) = self.readers.get_mut(&id) {
            reader.closed = true;
        }
        self.end_waits(id, || Answer::Handed(Vec::new()));
    }

    /// Ends the waits of one consumer.
    pub(crate) fn end_waits(&mut self, id: ReaderId, answer: impl Fn() -> Answer) {
        let Some(reader) = self.readers.get_mut(&id) else { return };
        for ticket in std::mem::take(&mut reader.tickets) {
            self.waiting.answer(ticket, answer());
        }
    }
}
