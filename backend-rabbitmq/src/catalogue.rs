//! Which queues there are, in a stream that every handle of the namespace reads: AMQP itself cannot be asked.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, ExchangeKind};
use parking_lot::Mutex;
use polyqueue::{Certainty, Error, QueueName, Result};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use crate::PROVIDER_NAME;
use crate::fault::is_missing;
use crate::link::Session;
use crate::publisher::Order;

/// How many records are under way at a time.
const WINDOW: u16 = 500;
/// How long a stream that has records may show none.
const EMPTY: Duration = Duration::from_secs(5);
/// How long to wait before a stream that shows nothing is looked at again.
const AGAIN: Duration = Duration::from_millis(50);
/// Where a stream holds more than this, its oldest whole segments go.
const MAX_BYTES: i64 = 20 * 1024 * 1024;

/// One line of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Record {
    /// The first record: a stream that was read is never empty.
    Begin,
    /// The queue exists from here on, unless it did before.
    Declare { queue: String, address: Arc<str> },
    /// The queue at this address is gone.
    Delete { queue: String, address: Arc<str> },
}

impl Record {
    /// A declaration with a fresh address.
    pub(crate) fn declare(queue: &QueueName) -> Self {
        Self::Declare { queue: queue.to_string(), address: uuid::Uuid::new_v4().simple().to_string().into() }
    }
}

/// What the records say so far.
#[derive(Debug, Default)]
struct Known {
    queues: BTreeMap<String, Arc<str>>,
    deleted: HashSet<Arc<str>>,
    /// Those of the deleted that this handle deleted.
    deleted_here: HashSet<Arc<str>>,
    next: i64,
    read_at: Option<Instant>,
}

impl Known {
    /// The first declaration since the last deletion wins.
    fn apply(&mut self, record: Record) {
        match record {
            Record::Begin => {}
            Record::Declare { queue, address } => {
                self.queues.entry(queue).or_insert(address);
            }
            Record::Delete { queue, address } => {
                if self.queues.get(&queue) == Some(&address) {
                    self.queues.remove(&queue);
                }
                self.deleted.insert(address);
            }
        }
    }

    fn take(&mut self, delivery: &Delivery) {
        let Some(offset) = offset(delivery) else { return };
        if offset < self.next {
            return;
        }
        self.next = offset + 1;
        match serde_json::from_slice(&delivery.data) {
            Ok(record) => self.apply(record),
            Err(error) => tracing::warn!(event = "rabbitmq.catalogue_record_unreadable", offset, %error),
        }
    }
}

/// What became of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// This queue's.
    Queue(QueueName),
    /// A queue's that was deleted.
    Deleted,
    /// Nobody's that we know.
    Nobody,
}

/// The stream of one namespace, as far as this handle has read it.
#[derive(Debug)]
pub(crate) struct Catalogue {
    stream: String,
    known: Mutex<Known>,
    /// One reader at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Catalogue {
    pub(crate) fn new(stream: String) -> Self {
        Self { stream, known: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// All queues, by name.
    pub(crate) fn queues(&self) -> Vec<QueueName> {
        let known = self.known.lock();
        known.queues.keys().filter_map(|name| QueueName::new(name).ok()).collect()
    }

    /// The address of a queue, as far as it was read.
    pub(crate) fn address(&self, queue: &QueueName) -> Option<Arc<str>> {
        self.known.lock().queues.get(queue.as_str()).cloned()
    }

    /// Whose an address is, as far as it was read.
    pub(crate) fn whose(&self, address: &str) -> Whose {
        let known = self.known.lock();
        if let Some((name, _)) = known.queues.iter().find(|(_, known)| ***known == *address) {
            return QueueName::new(name).map_or(Whose::Nobody, Whose::Queue);
        }
        if known.deleted.contains(address) { Whose::Deleted } else { Whose::Nobody }
    }

    /// Whether it was read within this time.
    pub(crate) fn is_fresh(&self, within: Duration) -> bool {
        self.known.lock().read_at.is_some_and(|at| at.elapsed() < within)
    }

    /// Remembers that this handle deletes the queue at this address.
    pub(crate) fn delete_here(&self, address: Arc<str>) {
        self.known.lock().deleted_here.insert(address);
    }

    /// Whether this handle deleted the queue at this address: what was in hand then has gone with it.
    pub(crate) fn was_deleted_here(&self, address: &str) -> bool {
        self.known.lock().deleted_here.contains(address)
    }

    /// An order that appends a record.
    pub(crate) fn order(&self, record: &Record) -> Order {
        let body = serde_json::to_vec(record).unwrap_or_default().into();
        let properties = BasicProperties::default().with_delivery_mode(2);
        Order { exchange: String::new(), key: self.stream.clone(), properties, body }
    }

    /// The stream's name, and that of the exchange which says that the stream can be read.
    pub(crate) fn name(&self) -> &str {
        &self.stream
    }

    /// Whether the stream can be read: it is there, and its first record, too.
    pub(crate) async fn exists(&self, session: &Session) -> Result<bool> {
        let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let channel = session.channel().await?;
        let name = self.stream.as_str().into();
        match channel.exchange_declare(name, ExchangeKind::Fanout, options, FieldTable::default()).await {
            Ok(()) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(session.fault(&error)),
        }
    }

    /// What the stream is declared with.
    pub(crate) fn arguments() -> FieldTable {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(MAX_BYTES));
        arguments
    }

    /// Reads to the end as it is now: whatever was confirmed before is known afterwards.
    pub(crate) async fn refresh(&self, session: &Session) -> Result<()> {
        let asked = Instant::now();
        let _turn = self.turn.lock().await;
        if self.known.lock().read_at.is_some_and(|begun| begun > asked) {
            return Ok(()); // somebody has read since
        }
        let begun = Instant::now();
        let tail = if self.exists(session).await? { self.tail_in_time(session).await? } else { Vec::new() };
        let next = self.begin_at(tail.last().and_then(offset));
        if let Some((first, end)) = tail.first().and_then(offset).zip(tail.last().and_then(offset))
            && first > next
        {
            self.catch_up(session, next, end).await.map_err(|e| session.fault(&e))?;
        }
        let mut known = self.known.lock();
        for delivery in &tail {
            known.take(delivery);
        }
        known.read_at = Some(begun);
        Ok(())
    }

    /// Where to go on reading. A stream that ends before is another than the one that was read: the broker was wiped.
    fn begin_at(&self, end: Option<i64>) -> i64 {
        let mut known = self.known.lock();
        if end.map_or(0, |end| end + 1) < known.next {
            *known = Known::default();
        }
        known.next
    }

    /// The last records of a stream that has some. A broker that has just started may not show it yet: that is no answer.
    async fn tail_in_time(&self, session: &Session) -> Result<Vec<Delivery>> {
        let deadline = Instant::now() + EMPTY;
        loop {
            match self.tail(session).await {
                Ok(tail) if !tail.is_empty() => return Ok(tail),
                Err(error) if !is_missing(&error) => return Err(session.fault(&error)),
                Ok(_) | Err(_) if Instant::now() >= deadline => {
                    let said = format!("its catalogue, the stream {:?}, cannot be read", self.stream);
                    return Err(Error::unavailable(PROVIDER_NAME, Certainty::Definite, said));
                }
                Ok(_) | Err(_) => sleep(AGAIN).await,
            }
        }
    }

    /// The last records. A stream's deliveries come on their own time, but all those of one chunk together: once the first is
    /// there, whatever follows it stands before the answer to the next command.
    async fn tail(&self, session: &Session) -> lapin::Result<Vec<Delivery>> {
        let Ok(channel) = session.channel().await else { return Ok(Vec::new()) };
        let last = AMQPValue::LongString("last".into());
        let mut reader = self.read_from(&channel, last).await?;
        let mut tail = Vec::new();
        match timeout(EMPTY, reader.next()).await {
            Ok(Some(first)) => tail.push(first?),
            Ok(None) | Err(_) => return Ok(tail),
        }
        channel.basic_qos(WINDOW, BasicQosOptions::default()).await?;
        while let Some(Some(next)) = reader.next().now_or_never() {
            tail.push(next?);
        }
        Ok(tail)
    }

    /// The records from `next` to `end`.
    async fn catch_up(&self, session: &Session, next: i64, end: i64) -> lapin::Result<()> {
        let Ok(channel) = session.channel().await else { return Ok(()) };
        let from = match next {
            0 => AMQPValue::LongString("first".into()),
            next => AMQPValue::LongLongInt(next),
        };
        let mut reader = self.read_from(&channel, from).await?;
        while let Some(delivery) = reader.next().await.transpose()? {
            self.known.lock().take(&delivery);
            if offset(&delivery).is_none_or(|offset| offset >= end) {
                break;
            }
            if delivery.delivery_tag % u64::from(WINDOW / 2) == 0 {
                channel.basic_ack(delivery.delivery_tag, BasicAckOptions { multiple: true }).await?;
            }
        }
        Ok(())
    }

    async fn read_from(&self, channel: &Channel, offset: AMQPValue) -> lapin::Result<lapin::Consumer> {
        channel.basic_qos(WINDOW, BasicQosOptions::default()).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), offset);
        let options = BasicConsumeOptions::default();
        channel.basic_consume(self.stream.as_str().into(), "".into(), options, arguments).await
    }
}

fn offset(delivery: &Delivery) -> Option<i64> {
    let headers = delivery.properties.headers().as_ref()?;
    match headers.inner().get("x-stream-offset") {
        Some(AMQPValue::LongLongInt(offset)) => Some(*offset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declare(queue: &str, address: &str) -> Record {
        Record::Declare { queue: queue.into(), address: address.into() }
    }

    fn delete(queue: &str, address: &str) -> Record {
        Record::Delete { queue: queue.into(), address: address.into() }
    }

    #[test]
    fn the_first_declaration_since_the_last_deletion_wins() {
        let mut known = Known::default();
        for record in [
            declare("q", "1"),
            declare("q", "2"),
            delete("q", "1"),
            delete("q", "1"),
            declare("q", "3"),
            declare("q", "4"),
            delete("q", "2"),
        ] {
            known.apply(record);
        }
        assert_eq!(&*known.queues["q"], "3");
        assert!(known.deleted.contains("1") && !known.deleted.contains("3"));
    }

    #[test]
    fn records_read_as_they_were_written() {
        let record = declare("é", "a");
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(json, r#"{"op":"declare","queue":"é","address":"a"}"#);
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    }
}
