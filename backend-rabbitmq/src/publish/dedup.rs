//! Dedup keys: one queue of the broker for each, holding a marker with the id of the message that has the key.
//!
//! Whoever looks at a marker holds the queue's only consumer meanwhile, so that of all who want a key one after the other finds
//! out. The marker goes by the broker's clock when the window ends.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::{BoxFuture, join};
use futures_util::stream::StreamExt;
use futures_util::{FutureExt, TryStreamExt};
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Consumer};
use polyqueue::{Dedup, DedupKey, DedupStore, Error, Message, MessageId, QueueName, Result, Until};
use tokio::sync::oneshot;

use crate::connection::fault::{is_missing, is_taken};
use crate::connection::handle::Core;
use crate::connection::link::Session;
use crate::connection::publisher::{Confirm, PublishRequest, lost};
use crate::connection::queries::{fence, get};
use crate::topology::records::CatalogueEntry;
use crate::wire::terms;

/// How long to wait for another who looks at the same key.
const TAKEN: Duration = Duration::from_millis(4);
/// How long an empty queue of a key may stay, beyond the window.
const SLACK: Duration = Duration::from_secs(60);
/// How many of this handle's calls look at keys at a time.
const TURNS: usize = 16;
/// How many keys are freed at once.
const TOGETHER: usize = 16;

/// What a handle needs for dedup keys.
pub(crate) struct Keys {
    /// Where the user wants them kept instead.
    store: Option<Arc<dyn DedupStore>>,
    turns: [tokio::sync::Mutex<()>; TURNS],
}

impl Keys {
    pub(crate) fn new(store: Option<Arc<dyn DedupStore>>) -> Self {
        Self { store, turns: Default::default() }
    }

    /// Whether they lie in a store that does not say when a key's message expires: then who lists the letters frees the keys.
    pub(crate) fn are_elsewhere(&self) -> bool {
        self.store.is_some()
    }
}

/// A key, while nobody else can look at it.
struct HeldMarker {
    session: Arc<Session>,
    channel: Channel,
    object: String,
    marker: Option<BasicProperties>,
    _consumer: Consumer,
}

impl HeldMarker {
    /// Whose the key is.
    fn holder(&self) -> Option<MessageId> {
        let id = self.marker.as_ref()?.message_id().as_ref()?;
        MessageId::new(id.as_str()).ok()
    }

    async fn free(&self) -> Result<()> {
        let options = QueueDeleteOptions::default();
        let deleted = self.channel.queue_delete(self.object.as_str().into(), options).await;
        deleted.map(drop).map_err(|e| self.session.fault(&e))
    }

    /// Lets others look.
    async fn end(self) {
        let _ = self.channel.close(200, "done".into()).await;
    }
}

impl Core {
    /// Gives a message's dedup key to it. Answers who has it already.
    ///
    /// The work goes on when nobody waits for it any more: a look at a key is not broken off half-way. What was claimed for
    /// nobody is freed.
    pub(crate) async fn claim(
        &self,
        entry: &CatalogueEntry,
        dedup: Dedup,
        message: &Message,
        key: &str,
    ) -> Result<Option<MessageId>> {
        let core = self.shared()?;
        let (entry, message, key) = (entry.clone(), message.clone(), key.to_owned());
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            let claimed = core.claim_now(&entry, &dedup, &message, &key).await;
            if let Err(Ok(None)) = answer.send(claimed) {
                core.release_key_of(&entry, &message).await;
            }
        });
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    async fn claim_now(
        &self,
        entry: &CatalogueEntry,
        dedup: &Dedup,
        message: &Message,
        key: &str,
    ) -> Result<Option<MessageId>> {
        if let Some(store) = &self.keys.store {
            return store.claim(&self.dedup_key(entry.name(), key), message.id(), dedup.window).await;
        }
        let object = self.names.marker(&entry.address, key);
        let _turn = self.keys.turns[turn(key)].lock().await;
        let Some(mut hold) = self.hold(&object, Some(dedup)).await? else { return Err(lost()) };
        if let Some(holder) = hold.holder() {
            if !self.died_unnoticed(entry.name(), &hold, &holder).await? {
                hold.end().await;
                return Ok(Some(holder));
            }
            hold.free().await?;
            hold.end().await;
            match self.hold(&object, Some(dedup)).await? {
                Some(again) => hold = again,
                None => return Err(lost()),
            }
            if let Some(holder) = hold.holder() {
                hold.end().await;
                return Ok(Some(holder));
            }
        }
        let marked = self.mark(entry, &object, message).await;
        if marked.is_err() {
            let _ = hold.free().await;
        }
        hold.end().await;
        marked.map(|()| None)
    }

    /// Writes the marker; and down where the queue's deletion will find it.
    async fn mark(&self, entry: &CatalogueEntry, object: &str, message: &Message) -> Result<()> {
        let publisher = self.publisher().await?;
        let marker = PublishRequest {
            exchange: String::new(),
            key: object.to_owned(),
            properties: marker(message, self.now()),
            body: Default::default(),
        };
        let note = PublishRequest {
            exchange: String::new(),
            key: self.names.keys(&entry.address),
            properties: BasicProperties::default().with_delivery_mode(2),
            body: object.to_owned().into(),
        };
        let (noted, marked) = join(publisher.publish(note), publisher.publish(marker)).await;
        for stored in [noted, marked] {
            if let Confirm::Unroutable = stored.unwrap_or_else(|_| Err(lost()))? {
                return Err(Error::not_found(entry.name().clone()));
            }
        }
        Ok(())
    }

    /// Takes hold of a key. `None` when it is free and nobody wants to claim it.
    async fn hold(&self, object: &str, claim: Option<&Dedup>) -> Result<Option<HeldMarker>> {
        let session = self.control().await?;
        loop {
            let channel = session.channel().await?;
            match look(&channel, object, claim).await {
                Ok((consumer, marker)) => {
                    let object = object.to_owned();
                    return Ok(Some(HeldMarker { session, channel, object, marker, _consumer: consumer }));
                }
                Err(error) if is_taken(&error) => tokio::time::sleep(TAKEN).await,
                Err(error) if is_missing(&error) && claim.is_none() => return Ok(None),
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(session.fault(&error)),
            }
        }
    }

    /// Whether the holder of a key died of its time to live, which the broker files without a word to anybody.
    async fn died_unnoticed(&self, queue: &QueueName, hold: &HeldMarker, holder: &MessageId) -> Result<bool> {
        let end = hold.marker.as_ref().and_then(terms::end);
        match end {
            Some(end) if end <= self.now().timestamp_millis() => self.lies_unnoticed(queue, holder).await,
            _ => Ok(false),
        }
    }

    /// Frees a key, when this message has it.
    async fn release(&self, entry: &CatalogueEntry, key: &str, id: &MessageId) -> Result<()> {
        if let Some(store) = &self.keys.store {
            return store.release(&self.dedup_key(entry.name(), key), id).await;
        }
        let object = self.names.marker(&entry.address, key);
        let _turn = self.keys.turns[turn(key)].lock().await;
        let Some(hold) = self.hold(&object, None).await? else { return Ok(()) };
        let freed = if hold.holder().as_ref() == Some(id) { hold.free().await } else { Ok(()) };
        hold.end().await;
        freed
    }

    /// Frees the key of a message that is no more. A key that cannot be freed is kept until its window ends.
    pub(crate) async fn release_key_of(&self, entry: &CatalogueEntry, message: &Message) {
        let (Some(key), Some(_), Ok(core)) = (message.dedup_key(), entry.spec.dedup, self.shared()) else {
            return;
        };
        let (entry, key, id) = (entry.clone(), key.to_owned(), message.id().clone());
        let work = tokio::spawn(async move {
            if let Err(error) = core.release(&entry, &key, &id).await {
                tracing::warn!(name: "rabbitmq.key_not_freed", queue = %entry.name(), %id, %error);
            }
        });
        let _ = tokio::time::timeout(self.deadline, work).await;
    }

    /// Frees the keys of many.
    pub(crate) async fn release_keys_of(&self, entry: &CatalogueEntry, messages: &[Message]) {
        let freed = |message| self.release_key_of(entry, message).boxed();
        let each: Vec<BoxFuture<'_, ()>> = messages.iter().map(freed).collect();
        futures_util::stream::iter(each).buffer_unordered(TOGETHER).collect::<()>().await;
    }

    /// What is to be freed when a message of this queue is acknowledged.
    pub(crate) fn is_freed_by_ack(&self, queue: &QueueName, message: &Message) -> bool {
        message.dedup_key().is_some()
            && self
                .catalogue
                .entry(queue)
                .is_some_and(|entry| entry.spec.dedup.is_some_and(|dedup| matches!(dedup.until, Until::Ack)))
    }

    /// Makes what says which keys of a queue there are.
    pub(crate) async fn declare_keys(&self, session: &Session, entry: &CatalogueEntry) -> Result<()> {
        let (Some(dedup), None) = (entry.spec.dedup, &self.keys.store) else { return Ok(()) };
        let channel = session.channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-message-ttl".into(), millis(dedup.window + SLACK));
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let made = channel.queue_declare(self.names.keys(&entry.address).into(), options, arguments).await;
        made.map(drop).map_err(|e| session.fault(&e))
    }

    /// Removes all keys of a queue that is being deleted.
    pub(crate) async fn delete_keys(&self, session: &Session, entry: &CatalogueEntry) -> Result<()> {
        let (Some(_), None) = (entry.spec.dedup, &self.keys.store) else { return Ok(()) };
        let channel = session.channel().await?;
        let notes = self.names.keys(&entry.address);
        let work = async {
            loop {
                let (got, _) = get(channel.clone(), notes.clone(), 256).await?;
                if got.is_empty() {
                    break;
                }
                let mut deleted = Vec::new();
                for note in &got {
                    if let Ok(object) = std::str::from_utf8(&note.data)
                        && self.names.is_marker(&entry.address, object)
                    {
                        deleted.push(channel.queue_delete(object.into(), QueueDeleteOptions::default()));
                    }
                }
                futures_util::future::try_join_all(deleted).await?;
            }
            channel.queue_delete(notes.as_str().into(), QueueDeleteOptions::default()).await
        };
        match work.await {
            Ok(_) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(session.fault(&error)),
        }
    }

    fn dedup_key(&self, queue: &QueueName, key: &str) -> DedupKey {
        let namespace = self.names.namespace().to_owned();
        DedupKey { namespace, queue: queue.clone(), key: key.to_owned() }
    }
}

/// Begins the queue's only consumer, and takes up the marker if there is one.
async fn look(
    channel: &Channel,
    object: &str,
    claim: Option<&Dedup>,
) -> lapin::Result<(Consumer, Option<BasicProperties>)> {
    if let Some(dedup) = claim {
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(object.into(), options, arguments(dedup)).await?;
    }
    let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
    let mut consumer =
        channel.basic_consume(object.into(), "".into(), options, FieldTable::default()).await?;
    fence(channel.clone(), object.to_owned()).await?;
    let marker = consumer.try_next().now_or_never().transpose()?.flatten();
    Ok((consumer, marker.map(|delivery| delivery.properties)))
}

fn arguments(dedup: &Dedup) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), millis(dedup.window));
    arguments.insert("x-expires".into(), millis(dedup.window + SLACK));
    arguments
}

fn millis(time: Duration) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

/// What a marker says of its message: its id, and when it expires. The marker itself does not: the message may be in hand then.
fn marker(message: &Message, now: DateTime<Utc>) -> BasicProperties {
    let properties =
        BasicProperties::default().with_delivery_mode(2).with_message_id(message.id().as_str().into());
    match message.ttl() {
        Some(ttl) => terms::expiring(properties, ttl, (now + ttl).timestamp_millis(), None),
        None => properties,
    }
}

fn turn(key: &str) -> usize {
    key.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % TURNS
}
