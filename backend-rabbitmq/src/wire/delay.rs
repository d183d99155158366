//! Delayed messages on the wire: what the objects are called that keep and move them, and what is written on a message that waits.

use lapin::BasicProperties;

use super::properties::{WAITING, as_number, as_text, entry, key, number, text};
use super::republish::{base, headers};

/// The exchange that leads a message which is due to its queue, by the queue's address.
pub(crate) const DUE: &str = "polyqueue.due";
/// Who consumes it alone moves what is due.
pub(crate) const LOCK: &str = "polyqueue.mover";
/// Who stops moving leaves a message here for whoever stands by.
pub(crate) const NEXT: &str = "polyqueue.mover.next";
/// The names of slots in which something may lie that its mover has not seen.
pub(crate) const LOOK: &str = "polyqueue.look";
/// The exchange and the queue that send a probe back with the broker's time on it.
pub(crate) const CLOCK: &str = "polyqueue.clock";
/// Where a message ends for which nobody knew a queue for a day.
pub(crate) const LOST: &str = "polyqueue.lost";
/// Begins the names of the queues in which messages wait.
const SLOT: &str = "polyqueue.slot.";

/// The queue of a slot.
pub(crate) fn slot_queue(level: usize, index: i64) -> String {
    format!("{SLOT}{level}.{index}")
}

/// Which slot a queue is, as its level and its index.
pub(crate) fn slot_of_queue(queue: &str) -> Option<(usize, i64)> {
    let (level, index) = queue.strip_prefix(SLOT)?.split_once('.')?;
    Some((level.parse().ok()?, index.parse().ok()?))
}

/// The end of the year 9999, in milliseconds since 1970.
const LATEST: i64 = 253_402_300_799_999;

/// What is written on a message that waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// When it is due, in milliseconds since 1970 by the broker's clock.
    pub(crate) due: i64,
    /// The life of the queue that it is for.
    pub(crate) address: String,
    /// The namespace of that queue.
    pub(crate) namespace: String,
    /// The broker's name of that queue.
    pub(crate) target: String,
    /// Since when nobody knows its queue.
    pub(crate) stranded: Option<i64>,
}

impl Ticket {
    /// Reads it. Whoever wrote it may have written any number: what is no time is the nearest one.
    pub(crate) fn read(properties: &BasicProperties) -> Option<Self> {
        let table = properties.headers().as_ref()?;
        let said = |key| entry(table, key).and_then(as_text).map(str::to_owned);
        Some(Self {
            due: entry(table, key::DUE).and_then(as_number)?.clamp(0, LATEST),
            address: said(key::ADDRESS)?,
            namespace: said(key::NAMESPACE)?,
            target: said(key::TARGET)?,
            stranded: entry(table, key::STRANDED).and_then(as_number).map(|since| since.clamp(0, LATEST)),
        })
    }

    /// The message with this on it.
    pub(crate) fn write(&self, properties: BasicProperties) -> BasicProperties {
        let mut headers = properties.headers().clone().unwrap_or_default();
        headers.insert(key::DUE.into(), number(self.due));
        headers.insert(key::ADDRESS.into(), text(self.address.as_str()));
        headers.insert(key::NAMESPACE.into(), text(self.namespace.as_str()));
        headers.insert(key::TARGET.into(), text(self.target.as_str()));
        if let Some(since) = self.stranded {
            headers.insert(key::STRANDED.into(), number(since));
        }
        properties.with_headers(headers)
    }
}

/// A message that waits, to wait again.
pub(crate) fn waiting(original: &BasicProperties) -> BasicProperties {
    base(original).with_headers(headers(original, &[]))
}

/// A message at the end of its wait, as it was published.
pub(crate) fn arrived(original: &BasicProperties) -> BasicProperties {
    base(original).with_headers(headers(original, &WAITING))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            due: 1_700_000_000_123,
            address: "4f2a".into(),
            namespace: "ns".into(),
            target: "ns.q.é".into(),
            stranded: Some(7),
        }
    }

    #[test]
    fn a_ticket_is_read_as_it_was_written_and_leaves_nothing_behind() {
        let message = BasicProperties::default().with_message_id("m".into()).with_priority(3);
        let waits = ticket().write(message);
        assert_eq!(Ticket::read(&waits), Some(ticket()));
        assert_eq!(Ticket::read(&waiting(&waits)), Some(ticket()));
        let came = arrived(&waits);
        assert_eq!(Ticket::read(&came), None);
        assert!(came.headers().as_ref().unwrap().inner().is_empty());
        assert_eq!((came.message_id(), came.priority()), (waits.message_id(), waits.priority()));
    }

    #[test]
    fn what_is_no_time_is_the_nearest_one() {
        for (said, read) in [(i64::MIN, 0), (-1, 0), (i64::MAX, LATEST)] {
            let wrong = Ticket { due: said, stranded: Some(said), ..ticket() };
            let ticket = Ticket::read(&wrong.write(BasicProperties::default())).unwrap();
            assert_eq!((ticket.due, ticket.stranded), (read, Some(read)));
        }
    }

    #[test]
    fn a_message_without_a_ticket_has_none() {
        assert_eq!(Ticket::read(&BasicProperties::default()), None);
    }

    #[test]
    fn the_queue_of_a_slot_tells_which_it_is() {
        assert_eq!(slot_of_queue(&slot_queue(2, 17)), Some((2, 17)));
        assert_eq!(slot_of_queue("polyqueue.slot.2"), None);
        assert_eq!(slot_of_queue("ns.q.polyqueue.slot.2.1"), None);
    }
}
