//! The receives of a consumer that wait for messages, the oldest first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use polyqueue::{Delivery, Error, Result};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The receives that wait.
#[derive(Default)]
pub(crate) struct Desk(Mutex<Receives>);

#[derive(Default)]
struct Receives {
    waiting: VecDeque<Arc<Ticket>>,
    arrivals: u64,
    end: Option<End>,
}

/// Why nothing is received any more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    /// The consumer was closed or dropped: receives are empty.
    Consumer,
    /// The handle was closed.
    Handle,
}

impl End {
    fn outcome(self) -> Result<Vec<Delivery>> {
        match self {
            Self::Consumer => Ok(Vec::new()),
            Self::Handle => Err(Error::Closed),
        }
    }
}

/// One receive.
pub(crate) struct Ticket {
    max: usize,
    until: Instant,
    /// Does not wait at all.
    once: bool,
    slot: Mutex<Slot>,
    filled: Notify,
}

enum Slot {
    Empty,
    Filled(Result<Vec<Delivery>>),
    /// Whoever asked has gone.
    Gone,
}

/// What the waiting receives want now.
pub(crate) struct Demand {
    /// Grows with every receive.
    pub(crate) arrivals: u64,
    pub(crate) messages: usize,
    /// Whether some wait for what is not there yet.
    pub(crate) patient: bool,
    /// When the first of them stops waiting.
    pub(crate) until: Instant,
}

impl Desk {
    /// Puts a receive at the end of the line.
    ///
    /// # Errors
    /// What it ends with at once, when nothing is received any more.
    pub(crate) fn arrive(&self, max: usize, wait: Duration) -> Result<Arc<Ticket>, Result<Vec<Delivery>>> {
        let mut receives = self.0.lock();
        if let Some(end) = receives.end {
            return Err(end.outcome());
        }
        let until = Instant::now() + wait;
        let slot = Mutex::new(Slot::Empty);
        let ticket = Arc::new(Ticket { max, until, once: wait.is_zero(), slot, filled: Notify::new() });
        receives.waiting.push_back(ticket.clone());
        receives.arrivals += 1;
        Ok(ticket)
    }

    /// Takes a receive out of the line, whose caller has gone. What it was given already comes back.
    pub(crate) fn leave(&self, ticket: &Arc<Ticket>) -> Vec<Delivery> {
        self.0.lock().waiting.retain(|other| !Arc::ptr_eq(other, ticket));
        match std::mem::replace(&mut *ticket.slot.lock(), Slot::Gone) {
            Slot::Filled(Ok(deliveries)) => deliveries,
            _ => Vec::new(),
        }
    }

    /// What is wanted; `None` when nobody waits.
    pub(crate) fn demand(&self) -> Option<Demand> {
        let receives = self.0.lock();
        let until = receives.waiting.iter().map(|ticket| ticket.until).min()?;
        Some(Demand {
            arrivals: receives.arrivals,
            messages: receives.waiting.iter().fold(0, |sum, ticket| sum.saturating_add(ticket.max)),
            patient: receives.waiting.iter().any(|ticket| !ticket.once),
            until,
        })
    }

    /// Hands out messages, sorted as they should be, to the oldest receive first. What nobody wants comes back.
    pub(crate) fn hand_out(&self, deliveries: Vec<Delivery>) -> Vec<Delivery> {
        let mut receives = self.0.lock();
        let mut rest = deliveries;
        while !rest.is_empty() {
            let Some(ticket) = receives.waiting.pop_front() else { break };
            let behind = rest.split_off(ticket.max.min(rest.len()));
            let refused = ticket.fill(Ok(rest));
            rest = refused.into_iter().chain(behind).collect();
        }
        rest
    }

    /// Whether the time of one is up.
    pub(crate) fn is_late(&self) -> bool {
        let now = Instant::now();
        self.0.lock().waiting.iter().any(|ticket| ticket.until <= now)
    }

    /// Ends those that arrived before `arrivals` and whose time is up: with `trouble`, or with nothing.
    pub(crate) fn expire(&self, arrivals: u64, trouble: Option<&Error>) {
        let now = Instant::now();
        let mut receives = self.0.lock();
        let newer = usize::try_from(receives.arrivals - arrivals).unwrap_or(usize::MAX);
        let asked = receives.waiting.len().saturating_sub(newer);
        let (mut index, mut kept) = (0, VecDeque::new());
        while let Some(ticket) = receives.waiting.pop_front() {
            if index < asked && (ticket.once || ticket.until <= now) {
                ticket.fill(trouble.cloned().map_or(Ok(Vec::new()), Err));
            } else {
                kept.push_back(ticket);
            }
            index += 1;
        }
        receives.waiting = kept;
    }

    /// Ends all that wait with an error.
    pub(crate) fn fail(&self, error: &Error) {
        for ticket in self.0.lock().waiting.drain(..) {
            ticket.fill(Err(error.clone()));
        }
    }

    /// Nothing is received from now on.
    pub(crate) fn close(&self, end: End) {
        let mut receives = self.0.lock();
        if receives.end != Some(End::Handle) {
            receives.end = Some(end);
        }
        for ticket in receives.waiting.drain(..) {
            ticket.fill(end.outcome());
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().end.is_some()
    }
}

impl Ticket {
    /// Gives the receive its outcome. Messages for one that has gone come back.
    fn fill(&self, outcome: Result<Vec<Delivery>>) -> Vec<Delivery> {
        let mut slot = self.slot.lock();
        if matches!(*slot, Slot::Gone) {
            return outcome.unwrap_or_default();
        }
        *slot = Slot::Filled(outcome);
        self.filled.notify_one();
        Vec::new()
    }

    /// The outcome, once it is there; taken in the very poll that returns it.
    pub(crate) async fn outcome(&self) -> Result<Vec<Delivery>> {
        loop {
            if let Slot::Filled(outcome) = &mut *self.slot.lock() {
                return std::mem::replace(outcome, Ok(Vec::new()));
            }
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polyqueue::{Message, QueueName, Receipt};

    fn deliveries(count: usize) -> Vec<Delivery> {
        let delivery = |n: usize| Delivery {
            queue: QueueName::from_static("q"),
            message: Message::new(n.to_string()),
            attempt: 1,
            receipt: Receipt::new(n.to_string()),
            lease_until: Instant::now(),
        };
        (0..count).map(delivery).collect()
    }

    fn arrive(desk: &Desk, max: usize, wait: u64) -> Arc<Ticket> {
        desk.arrive(max, Duration::from_secs(wait)).ok().unwrap()
    }

    #[tokio::test]
    async fn the_oldest_is_served_first_and_the_rest_comes_back() {
        let desk = Desk::default();
        let (first, second) = (arrive(&desk, 2, 9), arrive(&desk, 2, 9));
        assert_eq!(desk.demand().unwrap().messages, 4);
        assert_eq!(desk.hand_out(deliveries(5)).len(), 1);
        assert_eq!(first.outcome().await.unwrap()[0].receipt.as_str(), "0");
        assert_eq!(second.outcome().await.unwrap().len(), 2);
        assert!(desk.demand().is_none());
    }

    #[tokio::test]
    async fn what_was_given_to_one_who_has_gone_is_not_lost() {
        let desk = Desk::default();
        let (gone, stays) = (arrive(&desk, 3, 9), arrive(&desk, 1, 9));
        assert_eq!(desk.hand_out(deliveries(1)).len(), 0);
        assert_eq!(desk.leave(&gone).len(), 1);
        assert_eq!(desk.demand().unwrap().messages, 1);
        assert_eq!(desk.hand_out(deliveries(1)).len(), 0);
        assert_eq!(stays.outcome().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn only_those_that_were_asked_for_expire() {
        let desk = Desk::default();
        let (asked, patient) = (arrive(&desk, 1, 0), arrive(&desk, 1, 9));
        let arrivals = desk.demand().unwrap().arrivals;
        let late = arrive(&desk, 1, 0);
        desk.expire(arrivals, None);
        assert!(asked.outcome().await.unwrap().is_empty());
        assert_eq!(desk.demand().unwrap().messages, 2);
        desk.close(End::Handle);
        assert!(matches!(patient.outcome().await, Err(Error::Closed)));
        assert!(matches!(late.outcome().await, Err(Error::Closed)));
        assert!(matches!(desk.arrive(1, Duration::ZERO), Err(Err(Error::Closed))));
    }
}
